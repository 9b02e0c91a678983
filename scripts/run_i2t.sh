#!/usr/bin/env bash
# scripts/run_i2t.sh [CONFIG.yaml] [key=value ...] [--released_flag=value ...]: kaleidobert retrieve with configs/i2t.yaml unless another file
# is named; flags of the released script are translated. With such flags, and where the release's files lie in dataset/ and no bank
# in dataset/catalogue/bank, configs/released/i2t.yaml is the default.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
exec python -m kaleidobert.app_zoo.released_flags i2t "$root/configs" "$@"
