#!/bin/sh
# scripts/quickstart.sh [--reduced]: installs the package and runs everything on a drawn catalogue: synthesize, records,
# align, pretrain, classify (category, subcategory), retrieve (i2t, t2i), caption, inspect; ends with a table. Results lie in runs/quickstart.
# --reduced: fewer products and steps, into runs/quickstart_reduced (what the tests run).
set -eu
case "$#${1:-}" in 0 | 1--reduced) ;; *) echo "usage: scripts/quickstart.sh [--reduced]" >&2; exit 2 ;; esac
here="$0" # what was called: by its path, by a name on PATH, or by a link
case "$here" in */*) ;; *) [ -e "$here" ] || here="$(command -v -- "$here")" ;; esac
root="$(dirname -- "$(dirname -- "$(readlink -f -- "$here")")")"
cd "$root"
extras=""
. "$root/scripts/environment.sh"

configs=configs/quickstart
runs=runs/quickstart
words() { :; }
if [ $# -gt 0 ]; then
  runs=runs/quickstart_reduced
  words() {
    case "$1" in
      synthesize) echo "catalogue=$runs/catalogue num_products=60 size=96" ;;
      records) echo "bank=$runs/bank source.table=$runs/catalogue/products.jsonl encoder.size=8" ;;
      align) echo "run=$runs/align data.bank=$runs/bank train.epochs=1 decoding.num_beams=1" ;;
      pretrain) echo "run=$runs/pretrain data.bank=$runs/bank train.epochs=2" ;;
      t2i) echo "run=$runs/t2i data.bank=$runs/bank init=$runs/i2t/best.npz" ;;
      inspect) echo "run=$runs/pages data.bank=$runs/bank checkpoint=$runs/pretrain/best.npz maps=$runs/align/teacher_forced source.table=$runs/catalogue/products.jsonl count=2" ;;
      *) echo "run=$runs/$1 data.bank=$runs/bank init=$runs/pretrain/best.npz train.epochs=1" ;;
    esac
  }
fi

step() { # step NAME COMMAND
  printf '\n== %s\n' "$1"
  # shellcheck disable=SC2046 # the words are meant to be split
  kaleidobert "$2" "$configs/$1.yaml" $(words "$1")
}
step synthesize synthesize
step records records
step align align
step pretrain pretrain
step cat classify
step subcat classify
step i2t retrieve
step t2i retrieve
step caption caption
step inspect inspect
printf '\n'
python -m kaleidobert.app_zoo.summary "$runs"
printf '\n'
kaleidobert tables "$runs" out="$runs"
