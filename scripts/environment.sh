# source scripts/environment.sh EXTRAS: makes and enters .venv unless a virtual environment is active, and installs the package
# with the given extras ("" or "[test]") where it is not installed yet. Expects to be in the project's root.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
  if [ ! -x .venv/bin/python ]; then
    python="$(command -v python3.11 || command -v python3)"
    echo "making a virtual environment in .venv with $python"
    "$python" -m venv .venv
  fi
  source .venv/bin/activate
fi
stamp="$(python -c 'import sys; print(sys.prefix)')/.kaleidobert-$(echo "$PWD $1 $(cksum < setup.py)" | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  echo "installing the package (once)"
  python -m pip install --quiet --editable ".$1"
  touch "$stamp"
fi
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
