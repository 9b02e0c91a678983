# What the other scripts source, with $root (the project) and $extras ("" or "[test]") set: enters the project's .venv unless a virtual
# environment is active (conda's base is none), makes it where it is missing, and installs the package with the extras where that was
# not done yet. Ends the script that sources it where one of these fails.
: "${root:?scripts/environment.sh is sourced by the other scripts and not called}"
# several processes of one run may begin at once, on one host or on a shared disk: one makes and installs, the others wait
locked=""
if command -v flock > /dev/null && (: >> "$root/pyproject.toml") 2> /dev/null; then
  exec 9>> "$root/pyproject.toml"
  locked=yes
  flock 9 || true
fi
if [ -z "${VIRTUAL_ENV:-}" ] && { [ -z "${CONDA_PREFIX:-}" ] || [ "${CONDA_DEFAULT_ENV:-}" = base ]; }; then
  if [ ! -x "$root/.venv/bin/python" ] || [ ! -f "$root/.venv/bin/activate" ]; then
    python="$(command -v python3.11 || command -v python3)" || {
      echo "no python3 is found: install Python 3.11 or newer, or enter an environment that has it" >&2
      exit 1
    }
    echo "making a virtual environment in $root/.venv with $python"
    "$python" -m venv "$root/.venv" || exit
  fi
  . "$root/.venv/bin/activate"
fi
prefix="$(python -c 'import sys; print(sys.prefix)')" || exit
stamp="$prefix/.kaleidobert-$(printf '%s\n' "$root $extras $(cksum < "$root/pyproject.toml")" | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  echo "installing the package into $prefix (once)"
  python -m pip install --quiet --editable "$root$extras" || exit
  touch "$stamp" || exit
fi
if [ -n "$locked" ]; then exec 9>&-; fi
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
