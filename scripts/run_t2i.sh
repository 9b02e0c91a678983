#!/usr/bin/env bash
# scripts/run_t2i.sh [CONFIG.yaml] [key=value ...]: kaleidobert retrieve with configs/t2i.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/t2i.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert retrieve "$config" "$@"
