"""How well an alignment finds the parts that words name, where the catalogue knows their boxes (drawn catalogues)."""

from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.evaluators import alignment
from kaleidobert.evaluators.report import plots_alignment


def evaluate(bank: Bank, place: Path, words: list[dict], splits: tuple[str, str], seed: int) -> dict[str, Any]:
    """The summary of evaluators.alignment on the second of the two splits, with the share of sightings whose word has a map
    ("coverage"); only those are scored. Writes parts.png into ``place``, which holds maps.npy. Empty without part boxes.

    words: one dict per row with "words" and "has_map"; splits: names of the training and the evaluation split.
    """
    if not any(row["parts"] for row in bank.table):
        return {}
    train, test = (alignment.sightings(bank.rows(split), bank.table, bank.boxes) for split in splits)
    maps, strengths = np.load(place / "maps.npy", mmap_mode="r"), alignments.strengths(bank)
    own = [_number(words[row], word) for row, word in zip(test.rows, test.words)]
    seen = np.array([number >= 0 for number in own])
    if not seen.any():
        return {"coverage": 0.0, "sightings": len(seen)}
    test = alignment.Sightings(*(getattr(test, name)[seen] for name in ("rows", "words", "boxes", "frames", "patches")))
    own = [number for number in own if number >= 0]
    peaks = alignment.peaks(np.stack([maps[row, number] for row, number in zip(test.rows, own)]).astype(np.float32), test.frames)
    links = np.stack([strengths[row, bank.token_words[row] == number].max(0, initial=0) for row, number in zip(test.rows, own)])
    found = alignment.scores(test, train, peaks, links, bank.levels)
    summary = alignment.summary(found, test, np.random.Generator(np.random.Philox(seed)))
    plots_alignment.located(summary, place / "parts.png")
    return {"coverage": float(seen.mean()), "sightings": len(seen), **summary}


def tell(report: dict[str, Any]) -> None:
    """The outcome in a few lines; nothing where there are no part boxes."""
    if not report:
        return
    print(f"words that name a described part: {report['coverage']:.1%} of {report['sightings']:,} have a map")
    for measure, row in report.items():
        if isinstance(row, dict):
            pooled = {name: row[name]["sightings"] for name in alignment.METHODS}
            for what, values in (("mean over words", row), ("over all sightings", pooled)):
                print(f"  {measure}, {what}: " + "; ".join(f"{name} {values[name]['value']:.3f} [{values[name]['low']:.3f}, "
                                                           f"{values[name]['high']:.3f}]" for name in alignment.METHODS))


def _number(row: dict, word: str) -> int:
    """The first word of a row that is ``word`` and has a map; -1 where there is none."""
    texts = [text.lower() for text in row["words"]]
    return next((number for number, text in enumerate(texts) if text == word and row["has_map"][number]), -1)
