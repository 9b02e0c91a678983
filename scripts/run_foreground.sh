#!/usr/bin/env bash
# scripts/run_foreground.sh [CONFIG.yaml] [key=value ...]: kaleidobert train-foreground with configs/train_foreground.yaml unless another file is named.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
config="$root/configs/train_foreground.yaml"
case "${1:-}" in *.yaml | *.yml) config="$1"; shift ;; esac
exec kaleidobert train-foreground "$config" "$@"
