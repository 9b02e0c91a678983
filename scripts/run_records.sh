#!/bin/sh
# scripts/run_records.sh [CONFIG.yaml] [key=value ...]: kaleidobert records with configs/records.yaml unless another file is named.
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
extras=""
. "$root/scripts/environment.sh"
config="$root/configs/records.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert records "$config" "$@"
