#!/usr/bin/env bash
# scripts/convert.sh [CONFIG.yaml] [key=value ...]: kaleidobert convert with configs/convert.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/convert.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert convert "$config" "$@"
