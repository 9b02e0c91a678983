#!/usr/bin/env bash
# scripts/run_align.sh [CONFIG.yaml] [key=value ...]: kaleidobert align with configs/align.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/align.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert align "$config" "$@"
