# source scripts/environment.sh EXTRAS: enters the project's .venv unless a virtual environment is active (conda's base is none),
# makes it where it is missing, and installs the package with the given extras ("" or "[test]") where that was not done yet.
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# several processes of one run may begin at once, on one host or on a shared disk: one makes and installs, the others wait
if command -v flock > /dev/null && { exec 9>> "$project/setup.py"; } 2> /dev/null; then flock 9 || true; fi
if [ -z "${VIRTUAL_ENV:-}" ] && { [ -z "${CONDA_PREFIX:-}" ] || [ "${CONDA_DEFAULT_ENV:-}" = base ]; }; then
  if [ ! -x "$project/.venv/bin/python" ]; then
    python="$(command -v python3.11 || command -v python3)"
    echo "making a virtual environment in $project/.venv with $python"
    "$python" -m venv "$project/.venv"
  fi
  source "$project/.venv/bin/activate"
fi
stamp="$(python -c 'import sys; print(sys.prefix)')/.kaleidobert-$(echo "$project $1 $(cksum < "$project/setup.py")" | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  echo "installing the package into $(python -c 'import sys; print(sys.prefix)') (once)"
  python -m pip install --quiet --editable "$project$1"
  touch "$stamp"
fi
{ exec 9>&-; } 2> /dev/null || true
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
