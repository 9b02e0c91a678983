#!/bin/sh
# scripts/run_t2i.sh [CONFIG.yaml] [key=value ...] [--released_flag=value ...]: kaleidobert retrieve with configs/t2i.yaml unless another file
# is named; flags of the released script are translated. With such flags, and where the release's files lie in dataset/ and no bank
# in dataset/catalogue/bank, configs/released/t2i.yaml is the default.
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
extras=""
. "$root/scripts/environment.sh"
exec python -m kaleidobert.released_cli t2i "$root/configs" "$@"
