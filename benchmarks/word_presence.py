"""How well word presence links words to the parts that they name, on a drawn bank: seeds, intervals, and its control with shuffled texts.

    python -m benchmarks.word_presence FOLDER --bank runs/quickstart/bank --config configs/quickstart/align.yaml

Each seed is a run of `kaleidobert align` (mode word_presence) in a process of its own; the first is repeated on a copy of the bank whose
training texts have changed places between the pictures, so that nothing can be learnt about where words are seen. The copies of the bank
lie in FOLDER; the bank itself is not written.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.io import sha256

COLUMNS = ("alignment", "chance", "centre", "mean_position", "position_alone", "other_picture", "other_word", "look")
TEXTS = ("token_ids.npy", "token_words.npy")


def main() -> None:
    """Measures and prints a table of every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/quickstart/align.yaml"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("words", nargs="*", help="key=value for `kaleidobert align`")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    banks = {"texts": options.folder / "bank", "texts shuffled": options.folder / "bank-shuffled"}
    for name, target in banks.items():
        if not target.is_dir():
            shutil.copytree(options.bank, target)
            if name != "texts":
                shuffle_texts(target)
    runs = [("texts", seed) for seed in range(options.seeds)] + [("texts shuffled", 0)]
    for name, seed in runs:
        run = options.folder / f"{name.replace(' ', '-')}-{seed}"
        subprocess.run([sys.executable, "-m", "kaleidobert.cli", "align", str(options.config), f"run={run}", f"data.bank={banks[name]}",
                        "mode=word_presence", f"word_presence.seed={seed}", *options.words], check=True, stdout=subprocess.DEVNULL)
        print(f"\n{name}, seed {seed}\n{table(json.loads((run / 'word_presence/results.json').read_text())['parts'])}", flush=True)


def shuffle_texts(folder: Path) -> None:
    """Gives every training picture of a bank the text of a random one, and writes the bank's index anew."""
    bank = Bank(folder)
    order, rows = np.arange(bank.size), bank.rows("train")
    order[rows] = np.random.Generator(np.random.Philox(0)).permutation(rows)
    index = json.loads((folder / "index.json").read_text())
    for name in TEXTS:
        np.save(folder / name, np.load(folder / name)[order])
        index["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    (folder / "index.json").write_text(json.dumps(index))


def table(parts: dict) -> str:
    """Returns the means over sightings with 95% intervals, and the means over words in a row of their own, as Markdown."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---|" + "---:|" * len(COLUMNS)]
    for measure, row in parts.items():
        if isinstance(row, dict):
            for what, pick in (("sightings", lambda values: values["sightings"]), ("words", lambda values: values)):
                cells = (pick(row[name]) for name in COLUMNS)
                lines.append(f"| {measure}, {what} | " + " | ".join(f"{cell['value']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"
                                                                     for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
