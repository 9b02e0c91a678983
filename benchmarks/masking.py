"""Time a mask plan of Alignment Guided Masking (masking.plan) for texts and alignments drawn at random, single-threaded."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import floors, report
from kaleidobert import levels as kaleido
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import alignment_guided_masking

TEXT_LENGTH = 64
BATCH = 64


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.masking", description=__doc__)
    parser.add_argument("--batch", type=report.positive, default=BATCH, help=f"examples in a batch; default: {BATCH}")
    parser.add_argument("--words", type=report.positive, default=12, help="aligned words in a text, where it has so many; default: 12")
    parser.add_argument("--repeats", type=report.positive, default=7, help="rounds; case and floors are timed once in each; default: 7")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints AGM, and as floors random masking of the same texts and copying the alignment once."""
    machine = report.machine()
    text_batch = texts(options.batch, options.words)
    rng = np.random.Generator(np.random.Philox(0))

    def case(policy: str, name: str) -> floors.Case:
        def repeat(times: int) -> None:
            for _ in range(times):
                alignment_guided_masking.plan(policy, text_batch, KALEIDO, alignment_guided_masking.Quota(), rng)

        return floors.Case(name, options.batch / 1e3, "thousand examples", repeat)

    copying = floors.copies(text_batch.alignment.nbytes, 1)
    copying = floors.Case(f"{copying.name}, the alignment", options.batch / 1e3, "thousand examples", copying.run)
    timing, *against = floors.interleaved([case("alignment_guided", "AGM"), case("random", "random masking"), copying], options.repeats)
    links = np.count_nonzero(text_batch.alignment) / options.batch
    title = (f"masking: batch {options.batch}, {TEXT_LENGTH} tokens, {text_batch.alignment.shape[-1]} patches, "
             f"{links:.0f} links in an example")
    metadata = {"title": title, "machine": machine, "batch": options.batch}
    return report.show(metadata, timing, against, options.json)


def texts(batch: int, words: int) -> alignment_guided_masking.Texts:
    """Returns texts of 10 to 62 pieces, four pieces to three words, with two patches per masked level for each of ``words`` words."""
    rng, positions = np.random.Generator(np.random.Philox(0)), np.arange(TEXT_LENGTH)
    maskable = (positions >= 1) & (positions <= rng.integers(10, TEXT_LENGTH - 1, (batch, 1)))
    token_words = np.where(maskable, np.cumsum(rng.random(maskable.shape) < 0.75, axis=1), -1).astype(np.int16)
    strengths = np.zeros((batch, TEXT_LENGTH + 1, kaleido.num_patches(KALEIDO)), np.float16)
    for level, part in zip(KALEIDO, kaleido.patch_slices(KALEIDO).values()):
        if level.num_masked:
            two = rng.random((batch, TEXT_LENGTH + 1, level.num_patches)).argsort(-1)[..., :2]
            np.put_along_axis(strengths[..., part], two, (0.1 + 0.4 * rng.random(two.shape)).astype(np.float16), -1)
    number = token_words.max(1, keepdims=True).clip(1)
    chosen = rng.random((batch, TEXT_LENGTH + 1)) + 2 * (np.arange(TEXT_LENGTH + 1) > number)  # words that the text has come first
    strengths[chosen.argsort(1).argsort(1) >= words] = 0
    alignment = np.take_along_axis(strengths, token_words.clip(0)[..., None].astype(np.int64), 1)
    return alignment_guided_masking.Texts(maskable, token_words, alignment * maskable[..., None])


if __name__ == "__main__":
    sys.exit(main())
