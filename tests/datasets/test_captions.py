"""The targets of the word grounder: sentences, priors within a subcategory, candidates."""

from types import SimpleNamespace

import numpy as np
import pytest

from kaleidobert.datasets.sampling.captions import MAX_CANDIDATES, WordCooccurrenceTargets

TEXTS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "with", "coat", "tee", "ribbed", "plain", "collar", "hem", "red"]
PAD, START, STOP, WITH, COAT, TEE, RIBBED, PLAIN, COLLAR, HEM, RED = 0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12
ROWS = 120


def text(coat: bool, ribbed: bool, hem: bool) -> list[int]:
    first = [RED, COAT if coat else TEE, STOP, RIBBED if ribbed else PLAIN, COLLAR, STOP]
    words = [START, *first, *([RIBBED, HEM, STOP] if hem else [])]
    return words + [PAD] * (12 - len(words))


@pytest.fixture(scope="module")
def made() -> tuple[WordCooccurrenceTargets, np.ndarray]:
    """Coats: three of four collars are ribbed, half have a hem; tees: all collars are plain, none has a hem. Two rows more are not
    learned from."""
    rows = [text(True, k % 4 > 0, k % 2 == 0) for k in range(ROWS // 2)] + [text(False, False, False) for _ in range(ROWS // 2)]
    ids = np.array([*rows, text(False, True, True), text(True, True, True)], np.int32)
    groups = np.array([0] * (ROWS // 2) + [1] * (ROWS // 2) + [1, 0])
    return WordCooccurrenceTargets(ids, SimpleNamespace(size=len(TEXTS)), TEXTS, groups, np.arange(ROWS)), ids


def chance(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def test_a_word_is_asked_for_the_other_words_of_its_own_sentence(made):
    targets_of, ids = made
    _, targets, weights = targets_of.arrays(np.array([2]), 12)
    found = {
        place: {TEXTS[targets_of.context_words[column]] for column in np.flatnonzero(targets["cooccurrence_labels"][0, place])}
        for place in range(12)
    }
    assert found[1] == {"coat"} and found[2] == {"red"} and found[4] == {"collar"} and found[5] == {"ribbed"}
    assert found[7] == {"hem"} and found[8] == {"ribbed"} and all(not found[place] for place in (0, 3, 6, 9, 10, 11))
    assert np.flatnonzero(weights["cooccurrence_labels"][0]).tolist() == [1, 2, 4, 5, 7, 8]


def test_priors_are_the_shares_within_the_subcategory(made):
    targets_of, _ = made
    columns = {TEXTS[piece]: column for column, piece in enumerate(targets_of.context_words)}
    assert set(columns) == {"coat", "tee", "ribbed", "plain", "collar", "hem", "red"}  # neither "with" nor the stop
    coat, tee = (chance(targets_of.arrays(np.array([row]), 12)[1]["cooccurrence_prior"][0, 5]) for row in (0, ROWS - 1))
    assert coat[columns["ribbed"]] == pytest.approx(0.75, abs=0.03) and coat[columns["plain"]] == pytest.approx(0.25, abs=0.03)
    assert tee[columns["ribbed"]] < 0.03 and tee[columns["plain"]] > 0.95 and coat[columns["hem"]] < 0.03


def test_it_is_asked_whether_a_text_has_a_word_where_the_subcategory_leaves_it_open(made):
    targets_of, ids = made
    inputs, targets, weights = targets_of.arrays(np.array([0, 1, ROWS - 1]), 12)
    asked = [
        {TEXTS[piece] for piece, known in zip(row, keep) if known} for row, keep in zip(inputs["candidates"], weights["presence_labels"])
    ]
    assert asked == [{"plain", "hem"}, {"plain", "hem"}, set()]  # every coat has something ribbed, and the tees are all alike
    hem = inputs["candidates"][0].tolist().index(HEM)
    assert targets["presence_labels"][:2, hem].tolist() == [1, 0] and chance(targets["presence_prior"][0, hem]) == pytest.approx(
        0.5, abs=0.03
    )
    assert inputs["candidates"].shape[1] <= MAX_CANDIDATES


def test_rows_that_were_not_learned_from_have_questions_too(made):
    targets_of, ids = made
    _, targets, weights = targets_of.arrays(np.array([ROWS, ROWS + 1]), 12)
    assert (
        targets["cooccurrence_labels"][0].sum() == targets["cooccurrence_labels"][1].sum() == 6
        and np.isfinite(targets["cooccurrence_prior"]).all()
    )
    assert weights["cooccurrence_labels"].sum() == 12


def test_any_length_can_be_asked_for(made):
    targets_of, _ = made
    for length in (4, 20):
        _, targets, weights = targets_of.arrays(np.array([0, 1]), length)
        assert targets["cooccurrence_labels"].shape == (2, length, len(targets_of.context_words)) and weights[
            "cooccurrence_labels"
        ].shape == (2, length)
