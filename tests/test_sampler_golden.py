"""A batch of a (seed, step) never changes, whatever is done to the sampler's speed: runs resume, and results can be repeated."""

import hashlib

import numpy as np
import pytest

from kaleidobert.configs import Matching, Noise, Sampling
from kaleidobert.datasets import task_samplers
from kaleidobert.datasets.sampler import PretrainSampler
from tests.random_data import random_bank
from tests.tables import TABLES

GOLDEN = {
    "kaleido": {
        "random False": "74554ffcba0024f1a908e42fe3e86418596d4c4f33e6321e",
        "random True": "f38a663bd9eaed8f665b18675311731e1d015b3fc9cf41b2",
        "alignment False": "128b7434bc61dab870a1ab516f6af94cdebd7c7b8c844798",
        "alignment True": "8fd87eac458433ed269d7fd24ffd21ec6b4d4251a2321407",
        "label": "0be1fed8f0fc0b5b",
        "match": "9165aafc674e0c67",
        "towers": "9b26408d0f0fa8b0",
        "causal": "978249dc005de760",
        "mask-predict": "a5fc7003fbb7a3d0",
    },
    "two": {
        "random False": "459d83077bdef4a36eb9ebf004f1f5e9c8cbd08304e212b1",
        "random True": "4bdcd120c088b327245591585327904c64d4493806d0bec5",
        "alignment False": "38fe7ada26d38822bb64890c24e763835c8511cf3373cb0e",
        "alignment True": "6befa52e10e1a7d3b45cc470d2434e74eec2f0e6788e61d5",
        "label": "b92dc312aa6a3849",
        "match": "136f7c5d4e86e4dd",
        "towers": "5bb2ba05af3d413d",
        "causal": "f4d501f1c2dbb6ac",
        "mask-predict": "28f1b209cd083bc0",
    },
    "six": {
        "random False": "8ad0cea1f307ca50a6f6ba7314343d989836cb3b4c4b1c0b",
        "random True": "d856f4ecf5f833cb5c5d810518982f1e190c3632d0482075",
        "alignment False": "9f1d863c8d42ab25dcd0891bb55e171a470800e92e6dd41d",
        "alignment True": "c7951ab9def72d9f8a4fc1725cfa79aca0e5291d632792b0",
        "label": "792f591cdbe3bfac",
        "match": "216fb435313d7c40",
        "towers": "1eaeb8ea2f5d2d01",
        "causal": "dc6e6292b09c54c2",
        "mask-predict": "2ca4125ed4ec043f",
    },
    "classes": {
        "random False": "9d91e6967bac095ae60a83a9f6dcaa3abc8a1cfea1583fad",
        "random True": "b92449c5677d8f7a06a0600cbc378dbcd0ac97d88b552969",
        "alignment False": "212f7b9abf05c0d67a6d03c605eb10faa5bb38f7aba4c2e8",
        "alignment True": "dfd354ee9e8426176e129ec84f46abd1ab15dd2b042d29de",
        "label": "709bc9f76d775d47",
        "match": "a0e0b4e5fe71a740",
        "towers": "6a59f947f200e871",
        "causal": "91d20054b9ef8ff6",
        "mask-predict": "b213b30f8fa3762e",
    },
}


def digest(batch) -> str:
    """Of names, types, shapes and bytes of all arrays of a batch."""
    found = hashlib.sha256()
    for part in batch:
        for name in sorted(part):
            array = np.ascontiguousarray(part[name])
            found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:16]


def digests(bank) -> dict[str, str]:
    """Of batches of every sampler."""
    rows, found = bank.rows("train"), {}
    for masking in ("random", "alignment"):
        for words in (False, True):
            sampler = PretrainSampler(bank, rows, bank.levels, Sampling(masking, whole_word=words), 13, 5)
            found[f"{masking} {words}"] = digest(sampler.batch(0)) + digest(sampler.batch(7)) + digest(sampler.validation(1))
    labels, _ = task_samplers.label_ids(bank, "subcategory", rows)
    found["label"] = digest(task_samplers.LabelSampler(bank, rows, labels, "both", Noise(0.1, 0.2), 9, 1).batch(3))
    found["match"] = digest(task_samplers.MatchSampler(bank, rows, "subcategory", Matching(negatives=2), 6, 2).batch(4))
    found["towers"] = digest(task_samplers.TowerSampler(bank, rows, "subcategory", 11, 2).batch(4))
    for mode in ("causal", "mask-predict"):
        found[mode] = digest(task_samplers.CaptionTaskSampler(bank, rows, mode, Noise(0.1, 0.2), 10, 3).batch(2))
    return found


@pytest.mark.parametrize("table", TABLES)
def test_batches_are_what_they_were(tmp_path, table):
    assert digests(random_bank(tmp_path, TABLES[table])) == GOLDEN[table]
