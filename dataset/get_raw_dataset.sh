#!/bin/sh
# dataset/get_raw_dataset.sh [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]: pictures and texts of Fashion-Gen as released, into dataset/raw.
# The HDF5 files of Fashion-Gen have no public address; with a place that holds them: --only fashion_gen --mirror URL_OR_FOLDER.
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
exec sh "$root/scripts/fetch.sh" "$root/dataset/manifest.json" raw "$@"
