#!/usr/bin/env bash
# scripts/run_pretrain.sh [CONFIG.yaml] [key=value ...]: kaleidobert pretrain with configs/pretrain.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/pretrain.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert pretrain "$config" "$@"
