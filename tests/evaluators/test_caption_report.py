"""The report on captions: figures observed from the COCO evaluation, intervals, refusals; METEOR's program and what stands in for it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import caption_metrics
from kaleidobert.errors import UserError
from kaleidobert.evaluators import captions as caption_evaluation
from kaleidobert.evaluators import meteor, statistics
from kaleidobert.evaluators.ptb_tokenizer import tokenize_all

FASHION = Path(os.environ.get("KALEIDO_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "fashion"
CAPTIONS = ["Men's blue slim-fit shirt", "women red leather bag with strap", "Kids 100% cotton T-shirt (pack of 2)", "", "black shoe",
            'Silver watch, 1 1/2" dial', "Puma men white sneakers", "blue jeans"]
REFERENCES = [["Levi's Men's Slim-Fit Blue Shirt", "A blue shirt for men."], ["Women's red bag with a leather strap"],
              ["Kids' T-shirt, 100% cotton", "Pack of 2 cotton T-shirts", "Gini & Jony kids T-shirt"], ["Green cap"],
              ["Black shoes for men", "Nike black shoe"], ['Watch with silver dial (1 1/2")'], ["Puma Men White Sneakers"],
              ["Men's dark jeans", "blue jeans"]]
SEEN = {  # pycocoevalcap 1.2 with its own tokens: of the corpus, of each caption
    "bleu4": (0.25019966194605636, None),
    "rouge_l": (0.6287183192956348, [0.6472148541114059, 0.6963470319634703, 0.5674418604651164, 0.0, 0.7721518987341772,
                                     0.346590909090909, 1.0, 1.0]),
    "cider_d": (2.9785517985709795, [1.8771269200818081, 2.6318736354425685, 1.5490612829259673, 0.0, 2.4012635280357975,
                                     2.225038962982564, 10.0, 3.144050059099129]),
    "meteor": (0.4010169440677153, [0.37082577888416907, 0.363544580138802, 0.4443438716486749, 0.0, 0.33520678036654417,
                                    0.4133408363358572, 1.0, 1.0])}


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def program():
    """Skips where METEOR cannot run."""
    try:
        meteor.find()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """A function that lets a shell script stand for java, with a jar and its data that exist."""

    def make(script: str) -> None:
        (tmp_path / "data").mkdir()
        for name in (meteor.JAR, meteor.PARAPHRASES):
            (tmp_path / name).touch()
        (tmp_path / "java").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "java").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setenv(meteor.VARIABLE, str(tmp_path / meteor.JAR))

    return make


def test_figures_as_seen(no_java):
    found = caption_evaluation.report(CAPTIONS, REFERENCES, resamples=50)
    for name in ("bleu4", "rouge_l", "cider_d"):
        assert found[name]["value"] == pytest.approx(SEEN[name][0], abs=1e-12)
        assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    assert found["meteor"] is None and found["meteor_note"] == "METEOR: needs Java"
    assert (found["count"], found["different_captions"]) == (8, 8)
    assert found["mean_length"] == (5 + 6 + 10 + 0 + 2 + 4 + 4 + 2) / 8  # brackets count
    assert found["reference_length"] == pytest.approx(np.mean([len(words) for words in tokenize_all(sum(REFERENCES, []))]))
    each = caption_evaluation.per_caption(CAPTIONS, REFERENCES)
    assert list(each) == ["rouge_l", "cider_d"]
    for name, values in each.items():
        np.testing.assert_allclose(values, SEEN[name][1], rtol=0, atol=1e-12)


def test_intervals_are_of_means_and_repeat(no_java):
    one, again, other = (caption_evaluation.report(CAPTIONS * 20, REFERENCES * 20, np.random.Generator(np.random.Philox(seed)), 400)
                         for seed in (1, 1, 2))
    assert one == again != other
    spread = np.std(SEEN["rouge_l"][1] * 20) / np.sqrt(160)
    assert one["rouge_l"]["high"] - one["rouge_l"]["low"] == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert one["bleu4"]["value"] == pytest.approx(SEEN["bleu4"][0])  # the same captions again change nothing
    alone = caption_evaluation.report(CAPTIONS[:1], REFERENCES[:1], resamples=10)
    assert alone["bleu4"]["low"] == alone["bleu4"]["high"] == alone["bleu4"]["value"]


def test_drawn_captions_do_not_depend_on_blocks(no_java, monkeypatch):
    whole = caption_evaluation.report(CAPTIONS, REFERENCES, resamples=30)
    monkeypatch.setattr(statistics, "BLOCK", 8 * 7)
    assert caption_evaluation.report(CAPTIONS, REFERENCES, resamples=30) == whole


def test_copies_are_perfect_and_empty_captions_nothing(no_java):
    texts = [several[0] for several in REFERENCES]
    found = caption_evaluation.report(texts, [[text] for text in texts], resamples=5)
    assert found["rouge_l"]["low"] == 1 and found["bleu4"]["value"] == pytest.approx(1, abs=1e-6)
    found = caption_evaluation.report([""] * 8, REFERENCES, resamples=5)
    assert [found[name]["value"] for name in ("bleu4", "rouge_l", "cider_d")] == [0, 0, 0]
    assert (found["mean_length"], found["different_captions"]) == (0, 1)


@pytest.mark.parametrize("captions, references, message", [
    ([], [], "0 captions"), (["a"], [["a"], ["b"]], "1 captions, 2 lists"), (["a", "b"], [["a"], []], r"caption 1 \(from 0\): no ref"),
    (["a"], [["a", " "]], "an empty reference"), (["a"], ["a"], "not a list")])
def test_refusals(captions, references, message):
    for measure in (caption_evaluation.report, caption_evaluation.per_caption):
        with pytest.raises(UserError, match=message):
            measure(captions, references)


def test_as_the_coco_evaluation_on_real_texts():
    pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer", reason="pip install --no-deps pycocoevalcap to compare with it")
    if shutil.which("java") is None:
        pytest.skip("the tokeniser of the COCO evaluation needs Java")
    if not (FASHION / "products.csv").exists():
        pytest.skip("no ../shared/fashion (KALEIDO_SHARED names another place)")
    titles, descriptions = (list(caption_metrics.read(FASHION / "products.csv", column)) for column in ("title", "description"))
    captions, references = caption_metrics.perturbed(titles + descriptions[:500], 2000, np.random.Generator(np.random.Philox(5)))
    given, truth = reference_words(captions, references)
    theirs = caption_metrics.reference_scores(given, truth, with_meteor=False)
    flat = iter(tokenize_all(other for several in references for other in several))
    ours = caption_metrics.our_scores(tokenize_all(captions), [[next(flat) for _ in several] for several in references], with_meteor=False)
    for name, (value, each, _) in ours.items():
        assert value == pytest.approx(theirs[name][0], abs=1e-12), name
        np.testing.assert_allclose(each, theirs[name][1], rtol=0, atol=1e-12, err_msg=name)
    assert caption_evaluation.per_caption(captions, references)["cider_d"].mean() == pytest.approx(theirs["CIDEr-D"][0], abs=1e-12)


def reference_words(captions, references) -> tuple[list[str], list[list[str]]]:
    """Tokens of the COCO evaluation, with blanks between."""
    flat = iter(caption_metrics.reference_tokens([other for several in references for other in several]))
    joined = [[" ".join(next(flat)) for _ in several] for several in references]
    return [" ".join(words) for words in caption_metrics.reference_tokens(captions)], joined


def test_meteor_as_seen_and_as_the_coco_evaluation(program):
    captions, references = caption_metrics.perturbed(sum(REFERENCES, []), 200, np.random.Generator(np.random.Philox(6)))
    mine = [" ".join(words) for words in tokenize_all(CAPTIONS + captions)]
    others = [[" ".join(words) for words in tokenize_all(several)] for several in REFERENCES + references]
    with meteor.Meteor() as running:
        rows = np.array([running.statistics(*pair) for pair in zip(mine, others)])
        each, (value, seen) = running.scores(rows), running.scores(np.stack([rows.sum(axis=0), rows[:8].sum(axis=0)]))
    assert seen == pytest.approx(SEEN["meteor"][0], abs=1e-12) and each[:8].tolist() == pytest.approx(SEEN["meteor"][1], abs=1e-12)
    peer = pytest.importorskip("pycocoevalcap.meteor.meteor", reason="pip install --no-deps pycocoevalcap to compare with it").Meteor()
    corpus, scores = peer.compute_score(dict(enumerate(others)), {number: [text] for number, text in enumerate(mine)})
    for end in (peer.meteor_p.stdout, peer.meteor_p.stderr):
        end.close()
    assert value == pytest.approx(corpus, abs=1e-12)
    np.testing.assert_allclose(each, scores, rtol=0, atol=1e-12)


def test_meteor_in_the_report(pretended):
    numbers = "".join(f" echo 0.{301 + i};" for i in range(100))
    row = " ".join(["4.0", "3.0", *["0.0"] * 18, "1.0", "3.0", "3.0"])
    pretended(f'while read -r line; do case "$line" in SCORE*) echo "{row}" ;; '
              f'EVAL*"|||"*"|||"*){numbers} echo 0.9 ;; EVAL*) echo 0.3; echo 0.9 ;; esac; done')
    found = caption_evaluation.report(CAPTIONS, REFERENCES, resamples=100)
    assert found["meteor"] == pytest.approx({"value": 0.3, "low": 0.303475, "high": 0.397525}) and "meteor_note" not in found


def test_the_program_is_spoken_to_as_agreed(pretended):
    row = " ".join(["4.0", "3.0", *["0.0"] * 18, "1.0", "3.0", "3.0"])
    pretended(f"""echo "$@" > said
while read -r line; do
  echo "$line" >> said
  case "$line" in SCORE*) echo "{row}" ;; EVAL*) echo 0.25; echo 0.5; echo 0.75 ;; esac
done""")
    with meteor.Meteor() as program:
        rows = np.array([program.statistics("a red|||bag", ["a bag", "red\nbag"])] * 2)
        assert program.scores(rows).tolist() == [0.25, 0.5]
    said = (Path(os.environ[meteor.VARIABLE]).parent / "said").read_text().splitlines()
    assert said[0] == f"-jar -Xmx2G {os.environ[meteor.VARIABLE]} - - -stdio -l en -norm"
    assert said[1] == "SCORE ||| a bag ||| red bag ||| a redbag" and said[2] == f"EVAL ||| {row} ||| {row}"
    assert program._process.poll() is not None


def test_a_caption_that_matches_throughout_adds_no_chunk(pretended):
    pretended("while read -r line; do echo " + " ".join(["3.0", "3.0", *["0.0"] * 18, "1.0", "3.0", "3.0"]) + "; done")
    with meteor.Meteor() as program:
        assert program.statistics("a red bag", ["a red bag"]).tolist() == [3, 3, *[0] * 19, 3, 3]


@pytest.mark.parametrize("script, message", [
    ("exec sleep 60", "no answer within 0.2 s"), ("echo 'Could not reserve enough space' >&2; exit 1", "Could not reserve"),
    ("while read -r line; do echo what; done", "'what'"), ("exit 0", "it ended")])
def test_a_program_that_fails(pretended, script, message):
    pretended(script)
    with pytest.raises(UserError, match=message), meteor.Meteor(answer=0.2, start=0.2 if "sleep" in script else 30) as program:
        program.statistics("a", ["b"])
    assert program._process.poll() is not None
    if "sleep" not in script:
        found = caption_evaluation.report(CAPTIONS, REFERENCES, resamples=5)
        assert found["meteor"] is None and "program failed" in found["meteor_note"] and found["bleu4"]["value"] > 0.2


def test_what_meteor_misses_is_named(monkeypatch, tmp_path, pretended):
    pretended("exit 0")
    assert meteor.find() == (str(tmp_path / "java"), tmp_path / meteor.JAR)
    (tmp_path / meteor.PARAPHRASES).unlink()
    with pytest.raises(meteor.Missing, match="paraphrase-en.gz"):
        meteor.find()
    monkeypatch.setenv(meteor.VARIABLE, str(tmp_path / "no.jar"))
    with pytest.raises(meteor.Missing, match="no.jar.*pip install pycocoevalcap"):
        meteor.find()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(meteor.Missing, match="METEOR needs Java"):
        meteor.find()
