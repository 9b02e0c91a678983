"""Terms of a bank's texts, and batches of patches with them."""

import numpy as np
import pytest

from kaleidobert import levels as kaleido
from kaleidobert.datasets.sampling.pretraining import clean_features
from kaleidobert.datasets.sampling.word_presence import PresenceSampler, TermVocabulary, linked_levels, terms
from kaleidobert.errors import UserError
from tests.support import tables
from tests.support.tiny import tiny_bank


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("presence"))


def test_terms_are_content_words_and_pairs_of_neighbours():
    words = "Long Sleeves and flap pockets , 2 pockets .".split()
    assert [(term.name, term.words) for term in terms(words)] == [
        ("long", (0,)), ("sleeve", (1,)), ("flap", (3,)), ("pocket", (4,)), ("pocket", (7,)), ("long sleeve", (0, 1)),
        ("flap pocket", (3, 4))]
    assert terms([]) == [] and terms(["and", "."]) == []


def test_terms_of_a_bank(bank):
    rows = bank.rows("train")
    vocabulary = TermVocabulary(bank, rows, 2)
    assert {"tote", "printed", "printed front", "small pocket"} < set(vocabulary.names) and "with" not in vocabulary.names
    row = next(row for row in rows if "small pocket" in bank.table[row]["text"])
    words, columns = vocabulary.words(row), vocabulary.columns(row)
    found = {word.text: [vocabulary.names[column] for column in own] for word, own in zip(words, columns)}
    assert found["pocket"] == ["pocket", "small pocket"] and found["with"] == [] and len(words) == len(columns)
    assert len(TermVocabulary(bank, rows, 5).names) < vocabulary.size
    with pytest.raises(UserError, match="no content word stands in 99 training texts.*word_presence.min_count=1"):
        TermVocabulary(bank, rows, 99)


def test_batches_are_a_function_of_the_step_and_hold_what_the_bank_holds(bank):
    rows = bank.rows("train")
    vocabulary = TermVocabulary(bank, rows, 2)
    sampler = PresenceSampler(bank, vocabulary, rows, 5, 3)
    assert [level.name for level in sampler.levels] == ["camouflage", "grey", "blank"] and sampler.num_cells == 9 + 16 + 25
    inputs, targets, weights = sampler.batch(7)
    again = PresenceSampler(bank, vocabulary, rows, 5, 3).batch(7)
    np.testing.assert_array_equal(again[0]["cells"], inputs["cells"])
    np.testing.assert_array_equal(again[1]["presence"], targets["presence"])
    assert inputs["cells"].shape == (5, 50, bank.feature_size) and weights["presence"].tolist() == [1] * 5
    first = kaleido.patch_slices(bank.levels)["camouflage"].start
    np.testing.assert_array_equal(sampler.inputs(rows[:3])["cells"], clean_features(bank, rows[:3])[:, first:])
    labels = sampler.labels(rows)
    np.testing.assert_allclose(sampler.frequencies(), labels.mean(0))
    for row, label in zip(rows, labels):
        assert (label[vocabulary.names.index("tote")] > 0) == ("tote" in bank.table[row]["text"])


def test_without_masked_patches_all_levels_are_looked_at(tmp_path):
    bare = tiny_bank(tmp_path, tables.BARE, 12)
    assert linked_levels(bare) == bare.levels
