"""BLEU-4, CIDEr-D and perplexity by values worked out by hand, and by the COCO evaluation's own code where it is installed."""

from math import exp, log, sqrt

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.evaluators import captioning

RED, BLUE = "a red bag with a strap".split(), "blue hat with a brim".split()


def test_bleu_of_a_copy_is_one_and_of_other_words_nothing():
    assert captioning.bleu([RED, BLUE], [[RED], [BLUE]]) == pytest.approx(1, abs=1e-6)
    assert captioning.bleu([RED], [["quite", "other", "words"]]) < 1e-6


def test_bleu_by_hand():
    caption, reference = "the red red bag".split(), "the red leather bag".split()
    assert captioning.bleu([caption], [[reference]], order=1) == pytest.approx(3 / 4)  # the second "red" counts no more
    assert captioning.bleu([caption], [[reference]], order=2) == pytest.approx(sqrt(3 / 4 * 1 / 3))
    assert captioning.bleu([["the", "red"]], [[reference]], order=1) == pytest.approx(exp(1 - 4 / 2))  # too short
    assert captioning.bleu([["the", "red"]], [[reference, ["a", "red"]]], order=1) == pytest.approx(1)  # the best of both


def test_cider_by_hand():
    # one picture's word is nowhere else: idf log 2; orders 2 to 4 hold nothing
    assert captioning.cider_d([["bag"], ["hat"]], [[["bag"]], [["hat"]]]) == pytest.approx(10 / 4)
    assert captioning.cider_d([["bag"], ["bag"]], [[["bag"]], [["bag"]]]) == 0  # what all say says nothing
    caption, idf = ["bag", "bag"], log(2)
    wanted = (10 / 4) * (idf * idf / (2 * idf * idf)) * exp(-1 / 72) / 2  # counts clipped; one word too long; other caption 0
    assert captioning.cider_d([caption, ["shoe"]], [[["bag"]], [["hat"]]]) == pytest.approx(wanted)


def test_as_the_coco_evaluation():
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pip install --no-deps pycocoevalcap to compare with it")
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    rng = np.random.default_rng(0)
    captions = [rng.choice(list("abcdefgh"), rng.integers(1, 12)).tolist() for _ in range(30)]
    references = [[rng.choice(list("abcdefgh"), rng.integers(2, 12)).tolist() for _ in range(rng.integers(1, 4))] for _ in captions]
    given = {i: [" ".join(words)] for i, words in enumerate(captions)}
    truth = {i: [" ".join(words) for words in others] for i, others in enumerate(references)}
    assert captioning.bleu(captions, references) == pytest.approx(bleu.Bleu(4).compute_score(truth, given, verbose=0)[0][3], abs=1e-9)
    assert captioning.cider_d(captions, references) == pytest.approx(cider.Cider().compute_score(truth, given)[0], abs=1e-9)


def test_perplexity_of_guessing_is_the_size_of_the_vocabulary():
    assert captioning.perplexity(np.full(9, -log(37))) == pytest.approx(37)


@pytest.mark.parametrize("captions, references", [([], []), ([RED], []), ([RED], [[]])])
def test_refusals(captions, references):
    with pytest.raises(UserError, match="one caption"):
        captioning.cider_d(captions, references)
