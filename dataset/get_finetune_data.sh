#!/usr/bin/env bash
# dataset/get_finetune_data.sh [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]: the released classification files, into dataset/finetune.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
exec bash "$root/scripts/fetch.sh" "$root/dataset/manifest.json" finetune "$@"
