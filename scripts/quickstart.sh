#!/bin/sh
# scripts/quickstart.sh [--reduced]: installs the package and calls kaleidobert quickstart, which runs every command on a drawn catalogue
# and ends with a report card. Results lie in runs/quickstart, those of --reduced (fewer products and steps, a smaller network;
# tests run it in a folder of their own) in runs/quickstart_reduced.
set -eu
case "$#${1:-}" in 0 | 1--reduced) ;; *) echo "usage: scripts/quickstart.sh [--reduced]" >&2; exit 2 ;; esac
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
cd "$root"
extras=""
. "$root/scripts/environment.sh"
exec kaleidobert quickstart "$@"
