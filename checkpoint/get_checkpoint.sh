#!/usr/bin/env bash
# checkpoint/get_checkpoint.sh [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]: the released checkpoint and start model, into checkpoint/.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
exec bash "$root/scripts/fetch.sh" "$root/checkpoint/manifest.json" "$@"
