#!/usr/bin/env bash
# scripts/test.sh [pytest arguments]: installs what the tests need, then lints, runs the tests and a reduced quickstart.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
source scripts/environment.sh "[test]"
ruff check .
python -m pytest "${@:-tests}"
if [ $# -eq 0 ]; then
  rm -rf runs/quickstart_reduced
  bash scripts/quickstart.sh --reduced
fi
