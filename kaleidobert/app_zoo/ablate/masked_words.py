"""What a pre-training knows of masked words, apart for aligned words and others: a step of ``kaleidobert ablate``, in its own process.

    python -m kaleidobert.app_zoo.ablate.masked_words CHECKPOINT BANK JUDGE FOLDER

writes FOLDER/results.json.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kaleidobert import io
from kaleidobert.app_zoo import models
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import rebuild

DRAWS, BATCH = 5, 64  # times that every text is masked; examples of a batch


def measure(checkpoint: Path, folder: Path, judge: Path) -> dict[str, float]:
    """Returns {"aligned", "unaligned": accuracy on masked word pieces of matching texts of the split val}.

    The pieces are masked at random, the same ones for every checkpoint; the picture is spoiled by the pretexts alone. A piece is aligned
    where the bank ``judge`` links it to a patch. Raises UserError where the banks do not hold the same texts in the same order.
    """
    meta = checkpoints.load_meta(checkpoint)
    bank, other = Bank(folder).require(models.levels_of(meta), ""), Bank(judge)
    if not np.array_equal(other.token_ids, bank.token_ids):
        raise UserError("the banks hold other texts, or the same in another order", f"{folder}, {judge}",
                        "banks of one catalogue that differ in foreground.method only", "make both with the same source and text keys")
    links = alignments.strengths(other)
    if links is None:
        raise UserError("the bank has no alignment", str(judge), "links, which say which words are aligned", "run `kaleidobert align`")
    model = rebuild(meta, precision="float32")
    checkpoints.restore(checkpoint, model)
    forward = steps.forward(model)
    linked: np.ndarray = np.any(np.asarray(links[:]) > 0, axis=-1)  # [N, T]
    right, aligned = [], []
    for draw in range(DRAWS):
        sampler = PretrainSampler(bank, bank.rows("val"), bank.levels, Sampling(masking="random", negative_share=0.0), BATCH, draw)
        step = 0
        while (batch := sampler.validation(step)) is not None:
            inputs, targets, weights = batch
            rows, used = sampler.order.rows[step * BATCH : (step + 1) * BATCH], weights["mlm"] > 0
            right.append((np.asarray(forward(inputs)["mlm"]).argmax(-1) == targets["mlm"])[used])
            aligned.append(np.take_along_axis(linked[rows], inputs["masked_tokens"], 1)[used])
            step += 1
    hits, of_aligned = np.concatenate(right), np.concatenate(aligned)
    return {name: float(hits[those].mean()) for name, those in (("aligned", of_aligned), ("unaligned", ~of_aligned)) if those.any()}


def main(words: Sequence[str]) -> int:
    """Measures and writes; returns 0, or 2 with a message."""
    if len(words) != 4:
        print("usage: python -m kaleidobert.app_zoo.ablate.masked_words CHECKPOINT BANK JUDGE FOLDER", file=sys.stderr)
        return 2
    try:
        checkpoint, bank, judge, folder = map(Path, words)
        metrics = measure(checkpoint, bank, judge)
        io.write_json(folder / "results.json", {"task": "masked words", "metrics": metrics, "draws": DRAWS, "judge": str(judge)})
    except UserError as error:
        print(f"masked words: {error}", file=sys.stderr)
        return error.status
    print("masked words: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
