#!/usr/bin/env bash
# scripts/run_i2t.sh [CONFIG.yaml] [key=value ...]: kaleidobert retrieve with configs/i2t.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/i2t.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert retrieve "$config" "$@"
