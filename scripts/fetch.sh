#!/usr/bin/env bash
# scripts/fetch.sh MANIFEST [FOLDER_OF_IT] [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]
# kaleidobert fetch with options in the usual spelling; what dataset/get_*.sh and checkpoint/get_checkpoint.sh call.
set -euo pipefail
usage() { sed -n 2,3p "${BASH_SOURCE[0]}" | cut -c3- >&2; exit 2; }
words=()
only=""
chosen=""
[ $# -gt 0 ] || usage
words+=("manifest=$1")
shift
case "${1:-}" in "" | -* | *=*) ;; *) only="$1"; shift ;; esac
while [ $# -gt 0 ]; do
  case "$1" in
    --list | --dry-run) words+=(--dry-run); shift ;;
    --mirror | --into | --endpoint) [ $# -gt 1 ] || usage; words+=("${1#--}=$2"); shift 2 ;;
    --only) [ $# -gt 1 ] || usage; chosen="${chosen:+$chosen, }$2"; only="$chosen"; shift 2 ;;
    *=*) words+=("$1"); shift ;;
    *) usage ;;
  esac
done
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/environment.sh" ""
exec kaleidobert fetch ${only:+"only=[$only]"} "${words[@]}"
