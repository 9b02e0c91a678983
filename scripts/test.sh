#!/bin/sh
# scripts/test.sh [--quick | --all | pytest arguments]: installs what the tests need, then lints and runs the tests, of which one is a
# reduced quickstart. --quick runs the tests of every unit and golden parity alone, --all those of the night as well (programs of
# benchmarks/, several processes); arguments of pytest replace the choice of tests.
set -eu
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
cd "$root"
extras="[test]"
. "$root/scripts/environment.sh"
ruff check .
if [ "${1:-}" = --quick ] && [ $# -eq 1 ]; then
  exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" tests
fi
if [ "${1:-}" = --all ] && [ $# -eq 1 ]; then
  exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests
fi
if [ $# -gt 0 ]; then
  exec python -m pytest "$@"
fi
# two files at a time: each process of more would need memory
exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not nightly" tests
