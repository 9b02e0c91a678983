#!/usr/bin/env bash
# scripts/run_records.sh [CONFIG.yaml] [key=value ...]: kaleidobert records with configs/records.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/records.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert records "$config" "$@"
