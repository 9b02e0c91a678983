#!/bin/sh
# benchmarks/wheels.sh [FOLDER=runs/wheels] [PYTHON=3.12]: downloads the wheels that a machine with JAX (and numpy, scipy, PyYAML, tokenizers, scikit-learn,
# pillow, tqdm) but no Keras and no network needs. There:  python -m pip install --no-index --no-deps FOLDER/*.whl
set -eu
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
cd "$root"
folder="${1:-runs/wheels}" version="${2:-3.12}" abi="cp$(printf '%s' "${2:-3.12}" | tr -d .)"
rm -rf "$folder"
python -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" --python-version "$version" --implementation cp \
  --abi "$abi" --abi abi3 --abi none --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  --platform any "keras>=3.15,<3.16" namex optree
ls -l "$folder"
