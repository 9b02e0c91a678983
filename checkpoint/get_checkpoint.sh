#!/bin/sh
# checkpoint/get_checkpoint.sh [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]: the released checkpoint and start model, into checkpoint/.
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
exec sh "$root/scripts/fetch.sh" "$root/checkpoint/manifest.json" "$@"
