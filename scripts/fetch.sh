#!/bin/sh
# scripts/fetch.sh MANIFEST [FOLDER_OF_IT] [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]
# kaleidobert fetch with options in the usual spelling; what dataset/get_*.sh and checkpoint/get_checkpoint.sh call.
set -eu
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
usage() { sed -n 2,3p "$root/scripts/fetch.sh" | cut -c3- >&2; exit 2; }
[ $# -gt 0 ] || usage
manifest="$1"
shift
only=""
chosen=""
case "${1:-}" in "" | -* | *=*) ;; *) only="$1"; shift ;; esac
left=$# # words that were not read yet; those of the command gather behind them
while [ "$left" -gt 0 ]; do
  word="$1"
  shift
  left=$((left - 1))
  case "$word" in
    --list | --dry-run) set -- "$@" --dry-run ;;
    --mirror | --into | --endpoint | --only)
      [ "$left" -gt 0 ] || usage
      if [ "$word" = --only ]; then
        chosen="${chosen:+$chosen, }$1"
        only="$chosen"
        shift
      else
        set -- "$@" "${word#--}=$1"
        shift
      fi
      left=$((left - 1)) ;;
    *=*) set -- "$@" "$word" ;;
    *) usage ;;
  esac
done
extras=""
. "$root/scripts/environment.sh"
exec kaleidobert fetch ${only:+"only=[$only]"} "manifest=$manifest" "$@"
