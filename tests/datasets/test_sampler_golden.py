"""A batch of a (seed, step) never changes, whatever is done to the sampler's speed: runs resume, and results can be repeated."""

import hashlib

import numpy as np
import pytest

from kaleidobert.configs import Matching, Noise, Sampling
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.evaluators.pretraining import negatives
from tests.support.random_data import random_bank
from tests.support.tables import TABLES

GOLDEN = {
    "kaleido": {
        "random False": "c83a6f26650d22cdbc0e4224ccc135457085ffaf99872dc2",
        "random True": "f38a663bd9eaed8f665b18675311731e1d015b3fc9cf41b2",
        "alignment_guided False": "94cc713158198fc3debc1185a5d0cb478e0f06f32b1c0233",
        "alignment_guided True": "b39b8b787c6cef7fcaf2e4a8379fe6cae1d811763fd8d1e3",
        "label": "0be1fed8f0fc0b5b",
        "match": "9165aafc674e0c67",
        "dual_encoder": "9b26408d0f0fa8b0",
        "causal": "978249dc005de760",
        "mask-predict": "a5fc7003fbb7a3d0",
    },
    "two": {
        "random False": "cb1d1f2685d5be751aa29f83f090dd85cc4cbb4823ea3424",
        "random True": "4bdcd120c088b327245591585327904c64d4493806d0bec5",
        "alignment_guided False": "271bfa27b0b15abe3d1ff898eac1ed29a8d7832e7cf9f229",
        "alignment_guided True": "a06db92d9c16bc80c3a9e68ee407cdada8d7832e7cf9f229",
        "label": "b92dc312aa6a3849",
        "match": "136f7c5d4e86e4dd",
        "dual_encoder": "5bb2ba05af3d413d",
        "causal": "f4d501f1c2dbb6ac",
        "mask-predict": "28f1b209cd083bc0",
    },
    "six": {
        "random False": "1d56b5a0684a718df8e1332bb2af0af12c0585ae33aef15d",
        "random True": "d856f4ecf5f833cb5c5d810518982f1e190c3632d0482075",
        "alignment_guided False": "e1e09faac9d90ec9bdf0df46596eb6cc6321914f6a34a6be",
        "alignment_guided True": "6f2d37efb8fcf2574ad8cf6054fa7f492bbd0de96fe5dbcd",
        "label": "792f591cdbe3bfac",
        "match": "216fb435313d7c40",
        "dual_encoder": "1eaeb8ea2f5d2d01",
        "causal": "dc6e6292b09c54c2",
        "mask-predict": "2ca4125ed4ec043f",
    },
    "classes": {
        "random False": "c0f465fd8829a3065f93f2d9ba478b4b4ed1f5a194e23bf9",
        "random True": "b92449c5677d8f7a06a0600cbc378dbcd0ac97d88b552969",
        "alignment_guided False": "907a5ee9d1e4f7b6968819f0baa14a20ec80fb3d64854206",
        "alignment_guided True": "907a5ee9d1e4f7b6968819f0baa14a20ec80fb3d64854206",
        "label": "709bc9f76d775d47",
        "match": "a0e0b4e5fe71a740",
        "dual_encoder": "6a59f947f200e871",
        "causal": "91d20054b9ef8ff6",
        "mask-predict": "b213b30f8fa3762e",
    },
}


HASHED_AS = {"predict_positions": "asked_tokens"}  # the name when the digests were taken


def digest(batch) -> str:
    """Of names, types, shapes and bytes of all arrays of a batch."""
    found = hashlib.sha256()
    for part in batch:
        for name, array in sorted(((HASHED_AS.get(name, name), array) for name, array in part.items()), key=lambda item: item[0]):
            array = np.ascontiguousarray(array)
            found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:16]


def digests(bank) -> dict[str, str]:
    """Of batches of every sampler."""
    rows, found = bank.rows("train"), {}
    for masking in ("random", "alignment_guided"):
        for words in (False, True):
            sampler = PretrainSampler(bank, rows, bank.levels, Sampling(masking, whole_word=words), 13, 5)
            found[f"{masking} {words}"] = digest(sampler.batch(0)) + digest(sampler.batch(7)) + digest(sampler.validation(1))
    labels, _ = finetuning.label_ids(bank, "subcategory", rows)
    found["label"] = digest(finetuning.LabelSampler(bank, rows, labels, "both", Noise(0.1, 0.2), 9, 1).batch(3))
    found["match"] = digest(finetuning.MatchSampler(bank, rows, "subcategory", Matching(negatives=2), 6, 2).batch(4))
    inputs, targets, weights = finetuning.DualEncoderSampler(bank, rows, "subcategory", 11, 2).batch(4)
    # when the digests were taken, the batch held this matrix in place of what it follows from
    comparable = negatives(targets.pop("identity")) | np.eye(11, dtype=bool)
    assert not targets
    found["dual_encoder"] = digest((inputs, {"open": comparable.astype(np.float32)}, weights))
    for mode in ("causal", "mask-predict"):
        found[mode] = digest(finetuning.CaptionTaskSampler(bank, rows, mode, Noise(0.1, 0.2), 10, 3).batch(2))
    return found


@pytest.mark.parametrize("table", TABLES)
def test_batches_are_what_they_were(tmp_path, table):
    assert digests(random_bank(tmp_path, TABLES[table])) == GOLDEN[table]
