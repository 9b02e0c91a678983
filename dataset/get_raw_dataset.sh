#!/usr/bin/env bash
# dataset/get_raw_dataset.sh [--list] [--mirror URL_OR_FOLDER] [--into FOLDER] [--only NAME] [key=value ...]: pictures and texts of Fashion-Gen as released, into dataset/raw.
# The HDF5 files of Fashion-Gen have no public address; with a place that holds them: --only fashion_gen --mirror URL_OR_FOLDER.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
exec bash "$root/scripts/fetch.sh" "$root/dataset/manifest.json" raw "$@"
