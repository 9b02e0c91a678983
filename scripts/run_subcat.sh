#!/usr/bin/env bash
# scripts/run_subcat.sh [CONFIG.yaml] [key=value ...] [--released_flag=value ...]: kaleidobert classify with configs/subcat.yaml unless another file
# is named; flags of the released script are translated. With such flags, and where the release's files lie in dataset/ and no bank
# in dataset/catalogue/bank, configs/released/subcat.yaml is the default.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
exec python -m kaleidobert.app_zoo.released_flags subcat "$root/configs" "$@"
