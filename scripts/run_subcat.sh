#!/usr/bin/env bash
# scripts/run_subcat.sh [CONFIG.yaml] [key=value ...]: kaleidobert classify with configs/subcat.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/subcat.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert classify "$config" "$@"
