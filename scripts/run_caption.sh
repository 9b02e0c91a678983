#!/usr/bin/env bash
# scripts/run_caption.sh [CONFIG.yaml] [key=value ...]: kaleidobert caption with configs/caption.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/caption.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert caption "$config" "$@"
