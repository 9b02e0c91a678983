#!/usr/bin/env bash
# dataset/get_retrieve_data.sh [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]: the released retrieval files, into dataset/retrieve.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
exec bash "$root/scripts/fetch.sh" "$root/dataset/manifest.json" retrieve "$@"
