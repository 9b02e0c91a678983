#!/usr/bin/env bash
# benchmarks/wheels.sh [FOLDER=runs/wheels] [PYTHON=3.12]: downloads the wheels that a machine with JAX (and numpy, scipy, PyYAML, tokenizers, scikit-learn,
# pillow, tqdm) but no Keras and no network needs. There:  python -m pip install --no-index --no-deps FOLDER/*.whl
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder="${1:-runs/wheels}" version="${2:-3.12}" abi="cp${2:-3.12}"
rm -rf "$folder"
python -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" --python-version "$version" --implementation cp \
  --abi "${abi//./}" --abi abi3 --abi none --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  --platform any "keras>=3.15,<3.16" namex optree
ls -l "$folder"
