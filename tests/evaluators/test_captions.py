"""BLEU, ROUGE-L and CIDEr-D by values worked out by hand, and by the COCO evaluation's own code where it is installed."""

from math import exp, log, sqrt

import numpy as np
import pytest

from benchmarks import caption_metrics
from kaleidobert.errors import UserError
from kaleidobert.evaluators import captions as metrics

RED, BLUE = "a red bag with a strap".split(), "blue hat with a brim".split()


def test_bleu_of_a_copy_is_one_and_of_other_words_nothing():
    assert metrics.bleu([RED, BLUE], [[RED], [BLUE]]) == pytest.approx(1, abs=1e-6)
    assert metrics.bleu([RED], [["quite", "other", "words"]]) < 1e-6


def test_bleu_by_hand():
    caption, reference = "the red red bag".split(), "the red leather bag".split()
    assert metrics.bleu([caption], [[reference]], order=1) == pytest.approx(3 / 4)  # the second "red" counts no more
    assert metrics.bleu([caption], [[reference]], order=2) == pytest.approx(sqrt(3 / 4 * 1 / 3))
    assert metrics.bleu([["the", "red"]], [[reference]], order=1) == pytest.approx(exp(1 - 4 / 2))  # too short
    assert metrics.bleu([["the", "red"]], [[reference, ["a", "red"]]], order=1) == pytest.approx(1)  # the best of both


def test_cider_by_hand():
    # one picture's word is nowhere else: idf log 2; orders 2 to 4 hold nothing
    assert metrics.cider_d([["bag"], ["hat"]], [[["bag"]], [["hat"]]]).mean() == pytest.approx(10 / 4)
    assert metrics.cider_d([["bag"], ["bag"]], [[["bag"]], [["bag"]]]).mean() == 0  # what all say says nothing
    caption, idf = ["bag", "bag"], log(2)
    wanted = (10 / 4) * (idf * idf / (2 * idf * idf)) * exp(-1 / 72) / 2  # counts clipped; one word too long; other caption 0
    assert metrics.cider_d([caption, ["shoe"]], [[["bag"]], [["hat"]]]).mean() == pytest.approx(wanted)


def test_rouge_by_hand():
    caption, reference = "the red bag for men".split(), "a red leather bag".split()
    precision, recall = 2 / 5, 2 / 4  # red ... bag
    assert metrics.rouge_l([caption], [[reference]]).mean() == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))
    # the best precision and the best recall may come from two references
    assert metrics.rouge_l([["red", "bag"]], [["red bag with a strap".split(), ["red"]]]).mean() == pytest.approx(1)
    assert metrics.rouge_l([["a"], ["b"]], [[["a"]], [["c"]]]).tolist() == [1, 0]


def test_captions_and_references_without_words():
    assert metrics.rouge_l([[], []], [[["a"]], [[]]]).tolist() == [0, 1]
    assert metrics.bleu([[], RED], [[RED], [RED]]) == pytest.approx(exp(1 - 2))
    assert metrics.cider_d([[], RED], [[RED], [[]]]).tolist() == [0, 0]
    assert metrics.bleu([[]], [[RED]]) == 0


def test_counts_of_bleu_add_up():
    captions, references = [RED, BLUE, RED[:3]], [[BLUE, RED[1:]], [BLUE], [RED]]
    counts = metrics.bleu_counts(captions, references)
    assert counts[0].tolist() == [6, 5, 5, 4, 3, 2, 6, 5, 4, 3]
    assert metrics.bleu_of(counts[[0, 2]].sum(axis=0)) == metrics.bleu([RED, RED[:3]], [references[0], references[2]])
    assert metrics.bleu_of(counts).tolist() == [metrics.bleu([mine], [others]) for mine, others in zip(captions, references)]


@pytest.mark.parametrize("letters", ["abcdefgh", "ab"])
def test_as_the_coco_evaluation(letters):
    pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pip install --no-deps pycocoevalcap to compare with it")
    rng = np.random.default_rng(0)
    captions = [rng.choice(list(letters), rng.integers(0, 12)).tolist() for _ in range(30)]
    references = [[rng.choice(list(letters), rng.integers(1, 12)).tolist() for _ in range(rng.integers(1, 4))] for _ in captions]
    ours = caption_metrics.our_scores(captions, references, with_meteor=False)
    joined = [[" ".join(words) for words in others] for others in references]
    theirs = caption_metrics.reference_scores([" ".join(words) for words in captions], joined, with_meteor=False)
    assert list(ours) == list(theirs) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    for name in ours:
        assert ours[name][0] == pytest.approx(theirs[name][0], abs=1e-12), name
        np.testing.assert_allclose(ours[name][1], theirs[name][1], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("captions, references", [([], []), ([RED], []), ([RED], [[]])])
def test_refusals(captions, references):
    for measure in (metrics.bleu, metrics.rouge_l, metrics.cider_d):
        with pytest.raises(UserError, match="one caption"):
            measure(captions, references)
