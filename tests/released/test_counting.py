"""Counting as public code does: the FashionBERT release's fault gives the figures of its README, our count the true ones."""

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.files import scores as score_files
from kaleidobert.released import counting
from tests.support.apps_data import call, results
from tests.support.score_data import Long, write

BATCH = 100  # pairs per line of the file
README = {"i2t": ((444, 845, 942, 1000), 1826), "t2i": ((517, 857, 931, 1000), 1786)}  # hits at 1, 5, 10, 100 and "queries"


def readme_pairs(direction: str, ahead: bool, seed: int) -> tuple[Long, np.ndarray]:
    """(1,000 lists of up to 100 pairs, the true rank of each right one), in 826 or 786 lines that 826 or 786 queries begin.

    Under the fault, the pair that begins a line is a query of its own: a hit if it is the right one, else nobody's. The ranks among
    all other pairs are those of the README. ahead: a wrong pair that begins a line has a score like any other, and may be ahead of the
    right one in truth; else it comes last.
    """
    hits, total = README[direction]
    rng = np.random.Generator(np.random.Philox(seed))
    lengths = _lengths(BATCH * (total - 1000), rng)
    starts, rights = np.cumsum(lengths) - lengths, rng.integers(lengths)
    first = -starts % BATCH  # the place of a pair that begins a line; at or behind the end of a list without one
    assert (first < lengths).sum() == total - 1000
    ranks = np.ones(1000, np.int64)  # of a right one that begins a line: 1, and hit in any case
    free = np.flatnonzero(first != rights)
    ranks[free] = rng.permutation(np.concatenate([np.full(hits[0] - (1000 - len(free)), 1), rng.integers(2, 6, hits[1] - hits[0]),
                                                  rng.integers(6, 11, hits[2] - hits[1]), rng.integers(11, 39, 1000 - hits[2])]))
    scores, truth = [], []
    for length, right, rank, begin in zip(lengths, rights, ranks, first):
        order = [place for place in rng.permutation(length) if place not in (right, begin)]
        order.insert(rank - 1, right)
        if begin < length and begin != right:
            order.insert(rng.integers(length) if ahead else length, begin)
        own = np.empty(length)
        own[order] = np.sort(rng.normal(size=length))[::-1]
        scores.append(own)
        truth.append(1 + int((own > own[right]).sum()))
    labels = [(np.arange(length) == right).astype(int) for length, right in zip(lengths, rights)]
    queries = [f"Q{query}" for query, length in enumerate(lengths) for _ in range(length)]
    answers = [f"A{query}-{place}" for query, length in enumerate(lengths) for place in range(length)]
    return Long(queries, answers, np.concatenate(labels).tolist(), np.concatenate(scores).tolist()), np.array(truth)


def _lengths(total: int, rng: np.random.Generator) -> np.ndarray:
    """1,000 lengths from 45 to 100 of the given sum: lists were shorter where a subcategory had too few products."""
    lengths = rng.integers(60, 101, 1000)
    while lengths.sum() != total:
        step = np.sign(total - lengths.sum())
        place = rng.choice(np.flatnonzero((lengths + step >= 45) & (lengths + step <= BATCH)))
        lengths[place] += step
    return lengths


def readme_file(path, direction, ahead):
    """(the result file, the true ranks)."""
    pairs, truth = readme_pairs(direction, ahead, 5)
    write(path, pairs, batch=BATCH)
    if direction == "t2i":  # written as pictures that ask for texts: change the two columns of ids
        fields = [line.split("\x01") for line in path.read_text().splitlines()]
        path.write_text("".join("\x01".join((second, first, *others)) + "\n" for first, second, *others in fields))
    return path, truth


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("direction", README)
def test_the_eight_integers_of_the_readme(tmp_path, direction, ahead):
    path, truth = readme_file(tmp_path / "result.txt", direction, ahead)
    table, rng = score_files.read(path, direction), np.random.default_rng(0)
    hits, total = README[direction]
    faulty = counting.count(table, "fashionbert", direction, rng)
    assert tuple(faulty[f"hits@{k}"] for k in (1, 5, 10, 100)) == hits and (faulty["queries"], faulty["real_queries"]) == (total, 1000)
    assert [faulty[f"rank@{k}"] for k in (1, 5, 10, 100)] == [hit / (total + 1e-5) for hit in hits]
    right = counting.count(table, "released", direction, rng)
    report = retrieval.report(table.scores, table.relevant, table.valid, rng, resamples=10)
    assert right["queries"] == report["queries"] == 1000
    for k, hit in zip((1, 5, 10), hits):
        assert report[f"rank@{k}"]["value"] == right[f"hits@{k}"] / 1000 == (truth <= k).mean()
        assert report[f"rank@{k}"]["value"] == pytest.approx(hit / 1000, abs=0.012 if ahead else 1e-12)


def test_the_same_through_the_command(tmp_path):
    path, truth = readme_file(tmp_path / "result.txt", "i2t", True)
    config = configs.EvaluateConfig(tmp_path / "run", path, "i2t", counting="fashionbert", protocol="fashionbert", resamples=10)
    done = call("evaluate", config)
    assert done.status == 0, done.err
    found = results(tmp_path / "run")
    assert [found["counted"][f"hits@{k}"] for k in (1, 5, 10)] == [444, 845, 942] and found["counted"]["queries"] == 1826
    assert found["metrics"]["rank@1"]["value"] == (truth == 1).mean() and found["protocol"] == "fashionbert"
    assert "hits@1 444" in done.out and "queries 1826" in done.out and "i2t: 1,000 queries" in done.out
