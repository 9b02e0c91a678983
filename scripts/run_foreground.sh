#!/bin/sh
# scripts/run_foreground.sh [CONFIG.yaml] [key=value ...]: kaleidobert train-foreground with configs/train_foreground.yaml unless another file is named.
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
extras=""
. "$root/scripts/environment.sh"
config="$root/configs/train_foreground.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert train-foreground "$config" "$@"
