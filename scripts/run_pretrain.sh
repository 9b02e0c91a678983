#!/bin/sh
# scripts/run_pretrain.sh [CONFIG.yaml] [key=value ...] [--released_flag=value ...]: kaleidobert pretrain with configs/pretrain.yaml unless another file
# is named; flags of the released script are translated. With such flags, and where the release's files lie in dataset/ and no bank
# in dataset/catalogue/bank, configs/released/pretrain.yaml is the default.
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
extras=""
. "$root/scripts/environment.sh"
exec python -m kaleidobert.released_cli pretrain "$root/configs" "$@"
