#!/usr/bin/env bash
# scripts/test.sh [pytest arguments]: installs what the tests need, then lints, runs the tests and a reduced quickstart.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
source scripts/environment.sh "[test]"
ruff check .
if [ $# -gt 0 ]; then
  exec python -m pytest "$@"
fi
python -m pytest -n 2 --dist loadfile tests  # two files at a time: each process of more would need memory
rm -rf runs/quickstart_reduced
bash scripts/quickstart.sh --reduced
