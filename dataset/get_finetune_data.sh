#!/bin/sh
# dataset/get_finetune_data.sh [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]: the released classification files, into dataset/finetune.
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
exec sh "$root/scripts/fetch.sh" "$root/dataset/manifest.json" finetune "$@"
