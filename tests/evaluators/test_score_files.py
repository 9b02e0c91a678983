"""Scores of anyone: every format gives one table; every kind of bad input is refused with its place; belonging together."""

import doctest
import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from kaleidobert.configs import ScoreColumns
from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, retrieval
from kaleidobert.evaluators.files import scores as score_files
from kaleidobert.released import counting
from tests.evaluators.test_candidates import made_up
from tests.support.score_data import Long, random_pairs, write

FORMATS = ("a.csv", "a.tsv", "a.jsonl", "a.npz", "lists.jsonl", "a.txt")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_table(tmp_path, name):
    pairs = random_pairs()
    table = score_files.read(write(tmp_path / name, pairs), "i2t")
    assert table.source == str(tmp_path / name) and table.labelled and table.notes == () and (table.pairs is not None) == (name == "a.txt")
    assert table.queries == list(dict.fromkeys(pairs.queries))
    found = [(query, candidate, int(right), float(score)) for query, names, rights, scores in
             zip(table.queries, table.candidates, table.relevant, table.scores) for candidate, right, score in zip(names, rights, scores)]
    assert found == list(pairs.rows())
    score_files.write(table, tmp_path / "again.jsonl")
    again = score_files.read(tmp_path / "again.jsonl")
    assert again.candidates == table.candidates and (again.scores == table.scores).all() and (again.relevant == table.relevant).all()
    lengths = [len(names) for names in table.candidates]
    assert table.valid.sum(1).tolist() == lengths
    assert (table.scores[~table.valid] == -np.inf).all() and not table.relevant[~table.valid].any()
    assert all(row[:length].all() for row, length in zip(table.valid, lengths))


@pytest.mark.parametrize("name", ["csv", "tsv", "scores"])
def test_formats_are_told_by_their_content_too(tmp_path, name):
    source = write(tmp_path / ("a.tsv" if name == "tsv" else "a.csv"), random_pairs())
    other = source.rename(tmp_path / f"plain-{name}")
    assert score_files.read(other).queries == score_files.read(write(tmp_path / "a.npz", random_pairs())).queries


def test_rows_may_stand_in_any_order(tmp_path):
    pairs = random_pairs(3)
    order = np.random.Generator(np.random.Philox(1)).permutation(len(pairs.queries))
    mixed = Long(*([values[i] for i in order] for values in (pairs.queries, pairs.candidates, pairs.labels, pairs.scores)))
    one, other = (score_files.read(write(tmp_path / f"{name}.csv", of)) for name, of in (("a", pairs), ("b", mixed)))
    score_files.matched(one, other)
    places = [other.queries.index(query) for query in one.queries]
    ranks = [retrieval.rank_statistics(table.scores, table.relevant, table.valid).ranks() for table in (one, other)]
    assert ranks[0].tolist() == ranks[1][places].tolist()


def test_columns_of_other_names_and_windows_files(tmp_path):
    names = ("image", "text", "gold", "similarity")
    path = write(tmp_path / "a.csv", random_pairs(), names)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b",", b" , "))
    table = score_files.read(path, columns=ScoreColumns(*names))
    assert table.candidates == score_files.read(write(tmp_path / "b.csv", random_pairs())).candidates
    with pytest.raises(UserError, match="there is no column 'query'; expected: one of its columns: image, text, gold, similarity"):
        score_files.read(path)
    with pytest.raises(UserError, match="no column 'similarty'.*did you mean 'similarity'"):
        score_files.read(path, columns=ScoreColumns("image", "text", "gold", "similarty"))
    for name in ("c.npz", "c.jsonl"):
        with pytest.raises(UserError, match="no column 'score'.*did you mean 'scores'"):
            score_files.read(write(tmp_path / name, random_pairs(), ("query", "candidate", "label", "scores")))


def test_ids_with_commas_quotes_and_line_ends(tmp_path):
    pairs = Long(["a,b", "a,b"], ['say "x"', "two\nlines"], [1, 0], [0.5, 0.25])
    for name in ("a.csv", "a.jsonl", "a.npz"):
        assert score_files.read(write(tmp_path / name, pairs)).candidates == [['say "x"', "two\nlines"]]


def test_long_tables_are_quick(tmp_path):
    rng = np.random.Generator(np.random.Philox(0))
    names = [[f"{what}-{i}" for i in range(count)] for what, count in (("query", 1000), ("candidate", 101))]
    pairs = Long(np.repeat(names[0], 101).tolist(), np.tile(names[1], 1000).tolist(),
                 np.tile(np.arange(101) == 7, 1000).astype(int).tolist(), rng.random(101_000).tolist())
    for name in FORMATS[:5]:
        path = write(tmp_path / name, pairs)
        began = time.process_time()
        assert score_files.read(path).scores.shape == (1000, 101)
        assert time.process_time() - began < 3  # about 0.5 where nothing else runs


# --- bad input ----------------------------------------------------------------------------------------------------------


HEAD = "query,candidate,label,score\n"
BAD = {
    "empty": ("", "the file is empty"),
    "only a head": (HEAD, "the table has no row"),
    "twice": (HEAD + "q,a,1,1\nq,b,0,2\nq,a,0,3\n", "line 4: the candidate 'a' of query 'q' stood before, on line 2; 1 such pairs"),
    "nan": (HEAD + "q,a,1,1\nq,b,0,nan\n", r"line 3: the score is nan \(1 such scores\)"),
    "inf": (HEAD + "q,a,1,-inf\nq,b,0,2\n", "line 2: the score is -inf"),
    "word": (HEAD + "q,a,1,1\nq,b,0,high\n", "line 3: the score is 'high'; expected: a number"),
    "label": (HEAD + "q,a,1,1\nq,b,2,0.5\n", "line 3: the label is 2; expected: 0 or 1"),
    "no label": (HEAD + "q,a,1,1\nq,b,,0.5\n", "line 3: the label is ''"),
    "cut": (HEAD + "q,a,1,1\nq,b,0", "line 3: the line has 3 of 4 columns and is the last one; expected: 4 columns.*cut off"),
    "cut in quotes": (HEAD + 'q,a,1,1\nq,"b', "line 3: the line cannot be read.*cut off"),
    "short": (HEAD + "q,a,1\nq,b,0,1\n", "line 2: the line has 3 of 4 columns; expected"),
    "a quote that the next row closes": ("query,candidate,label,score,note\nq,a,1,1,\"70s\nq,b,0,1,18\"\nr,a,1,1,\n",
                                         "line 2: the line cannot be read .a quote opens a cell that may run to line 3"),
    "a quote in a cell": (HEAD + 'q,"a" b,1,1\nq,b,0,1\n', "line 2: the line cannot be read"),
    "a column twice": (HEAD.replace("\n", ",score\n") + "q,a,1,1,2\n", "there are 2 columns 'score'"),
    "NUL": (HEAD + "q,a\0,1,1\nq,b,0,1\n", "line 2: the line holds a NUL character"),
    "long": (HEAD + "q,a,1,1\nq,b,0,1,7\n", "line 3: the line has 5 of 4 columns"),
}
BAD_LISTS = {
    "lengths": ({"scores": [1.0]}, "line 2: the lists differ in length: 2 candidates, 2 relevant, 1 scores"),
    "no list": ({"scores": 1.0}, "line 2: 'scores' is no list"),
    "nan": ({"scores": [1.0, float("nan")]}, "line 2: the score is nan"),
    "null": ({"scores": [1.0, None]}, "line 2: the score is (None|nan)"),
    "label": ({"relevant": [1, 3]}, "line 2: the label is 3"),
    "twice": ({"candidates": ["a", "a"]}, "line 2: the candidate 'a' of query 'r' stood before, on line 2"),
    "query twice": ({"query": "q"}, "line 2: the query 'q' stood before, on line 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused(tmp_path, case):
    text, message = BAD[case]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        score_files.read(tmp_path / "a.csv")
    assert str(tmp_path / "a.csv") in str(error.value)


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_files_of_ours_are_refused(tmp_path, case):
    change, message = BAD_LISTS[case]
    lines = [{"query": name, "candidates": ["a", "b"], "relevant": [1, 0], "scores": [1.0, 2.0]} for name in "qr"]
    lines[1] |= change
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=message):
        score_files.read(tmp_path / "scores.jsonl")


def test_files_that_are_cut_off(tmp_path):
    for name in ("lists.jsonl", "a.jsonl"):
        path = write(tmp_path / name, random_pairs())
        count = len(path.read_text().splitlines())
        path.write_text(path.read_text()[:-5])
        with pytest.raises(UserError, match=f"line {count}: the last line is cut off"):
            score_files.read(path)
    path = write(tmp_path / "a.npz", random_pairs())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="a.npz: cannot be read.*cut off"):
        score_files.read(path)
    path = write(tmp_path / "a.txt", random_pairs())
    path.write_text(path.read_text()[:-30])
    with pytest.raises(UserError, match="a.txt, line .*(the lists have|the line has|could not convert)"):
        score_files.read(path, "i2t")
    path = write(tmp_path / "a.csv", random_pairs())
    path.write_text(path.read_text()[:-2])  # within the last score: no reader can see that
    assert "has no end" in score_files.read(path).notes[0]


def test_other_bad_files(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"query": "q", "candidate": "a", "label": 1, "score": 1}\n{"query": "q"}\n')
    with pytest.raises(UserError, match="line 2: the line has no 'candidate'"):
        score_files.read(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("{}\n[1]\n")
    with pytest.raises(UserError, match="line 2: the line holds a list"):
        score_files.read(tmp_path / "a.jsonl")
    good = '{"query": "q", "candidate": "a", "label": 1, "score": 1, "x": 1, "x": 2}\n'
    for old, new, message in (('"score": 1', '"score": 2, "score": 1', "line 2: the key 'score' stands twice in the object"),
                              ('"q"', "NaN", "line 2: 'query' is NaN; expected: a text or a number")):
        (tmp_path / "a.jsonl").write_text(good + good.replace('"a"', '"b"').replace(old, new))
        with pytest.raises(UserError, match=message):
            score_files.read(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_bytes(b"query,candidate,label,score\n\xff,a,1,1\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        score_files.read(tmp_path / "a.csv")
    with pytest.raises(UserError, match="none.csv: cannot be read"):
        score_files.read(tmp_path / "none.csv")
    with pytest.raises(UserError, match="can be read in both directions"):
        score_files.read(write(tmp_path / "a.txt", random_pairs()))
    records = made_up(20)
    lists = candidates.build(records, "i2t", 0, length=5)
    candidates.save(lists, records.ids, tmp_path / "candidates.jsonl")
    with pytest.raises(UserError, match="candidate lists without scores.*candidates=FILE"):
        score_files.read(tmp_path / "candidates.jsonl")


def test_bad_npz(tmp_path):
    whole = {"query": np.array(["q", "q"]), "candidate": np.array(["a", "b"]), "label": np.array([1, 0]), "score": np.array([1.0, 2.0])}
    for change, message in (({"score": np.ones(3)}, "differ in length: query 2, candidate 2, label 2, score 3"),
                            ({"score": np.ones((2, 2))}, r"'score' has the shape \[2, 2\]"),
                            ({"score": np.array([1.0, np.inf])}, "row 1: the score is inf"),
                            ({"query": np.array(["q", None])}, "cannot be read .*strings, not objects"),
                            ({name: array[:0] for name, array in whole.items()}, "the file is empty")):
        np.savez(tmp_path / "a.npz", **whole | change)
        with pytest.raises(UserError, match=message):
            score_files.read(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", **whole | {"query": np.array([b"q", b"q"]), "candidate": np.array([3, 4])})
    assert score_files.read(tmp_path / "a.npz").candidates == [["3", "4"]]


def test_a_query_without_right_candidate(tmp_path):
    (tmp_path / "a.csv").write_text(HEAD + "q,a,1,1\nr,b,0,0.5\nr,c,0,0.5\n")
    table = score_files.read(tmp_path / "a.csv")
    with pytest.raises(UserError, match="1 of 2 queries have no right candidate, the first is 'r'.*counting=released"):
        score_files.require_right(table)
    assert score_files.select(table, np.array([True, False])).queries == ["q"]
    assert counting.count(table, "released", "", np.random.default_rng(0))["hits@1"] == 1


# --- belonging together -------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """(candidate lists as saved, a table of scores for them without labels, as text)."""
    records = made_up(20)
    lists = candidates.build(records, "i2t", 2, length=6)
    candidates.save(lists, records.ids, tmp_path / "candidates.jsonl")
    found = candidates.read(tmp_path / "candidates.jsonl")
    rows = [(query, name) for query, names in zip(found.queries, found.candidates) for name in names]
    text = "query,candidate,score\n" + "".join(f"{query},{name},{i % 7}\n" for i, (query, name) in enumerate(rows))
    (tmp_path / "a.csv").write_text(text)
    return found, score_files.read(tmp_path / "a.csv", need_labels=False), lists


def test_lists_give_the_labels(saved):
    found, table, lists = saved
    assert not table.labelled and not table.relevant.any()
    filled = score_files.with_lists(table, found, "lists")
    assert filled.labelled and filled.notes == () and (filled.relevant == lists.relevant).all()
    assert score_files.with_lists(filled, found, "lists").notes == ()
    one_right = replace(filled, relevant=filled.relevant & (np.cumsum(filled.relevant, 1) == 1))
    again = score_files.with_lists(one_right, found, "lists")
    several = int((lists.relevant.sum(1) - 1).sum())
    assert several > 0 and (again.relevant == lists.relevant).all() and f"{several} labels 0 of" in again.notes[0]


def test_tables_that_do_not_fit_the_lists(saved):
    found, table, lists = saved
    with pytest.raises(UserError, match=f"3 of 20 queries are missing, the first is '{re.escape(found.queries[2])}'; expected: .*lists"):
        score_files.with_lists(score_files.select(table, np.array([i for i in range(20) if i not in (2, 5, 7)])), found, "lists")
    with pytest.raises(UserError, match=f"1 queries are not in lists, the first is '{re.escape(table.queries[3])}'"):
        score_files.with_lists(table, replace(found, queries=[*found.queries[:3], *found.queries[4:]],
                                               candidates=[*found.candidates[:3], *found.candidates[4:]]), "lists")
    for change, message in ((lambda names: ["stranger", *names[1:]], "1 candidates are not in its list, the first is 'stranger'"),
                            (lambda names: names[1:], "1 candidates are missing, the first is")):
        changed = replace(table, candidates=[*table.candidates[:4], change(table.candidates[4]), *table.candidates[5:]])
        with pytest.raises(UserError, match=f"query '{re.escape(table.queries[4])}': {message}"):
            score_files.with_lists(changed, found, "lists")
    relevant = np.zeros(table.relevant.shape, bool)
    wrong = int(np.flatnonzero(~lists.relevant[0])[0])
    relevant[0, wrong] = True
    with pytest.raises(UserError, match=f"the label of '{re.escape(table.candidates[0][wrong])}' is 1; expected: 0, as in lists"):
        score_files.with_lists(replace(table, relevant=relevant), found, "lists")


def test_unknown_ids(saved):
    _, table, _ = saved
    ids = {name for names in table.candidates for name in names} | set(table.queries)
    score_files.check_ids(table, ids, "the bank")
    with pytest.raises(UserError, match="1 query ids are unknown, the first is 'p0/00.jpg'; expected: ids of the bank.*mean 'p0/0.jpg'"):
        score_files.check_ids(replace(table, queries=["p0/00.jpg", *table.queries[1:]]), ids | {"p0/0.jpg"}, "the bank")
    answer = min(ids - set(table.queries))
    with pytest.raises(UserError, match=f"1 candidate ids are unknown, the first is '{answer}'"):
        score_files.check_ids(table, ids - {answer}, "the bank")


def test_identical_texts_are_right(saved):
    records, (_, table, lists) = made_up(20), saved
    own = np.zeros(table.valid.shape, bool)
    for row, (query, names) in enumerate(zip(table.queries, table.candidates)):
        own[row, : len(names)] = [name == query for name in names]
    texts = dict(zip(records.ids, records.texts))
    filled, turned = score_files.with_texts(replace(table, relevant=own), texts)
    assert (filled.relevant == lists.relevant).all() and turned == lists.relevant.sum() - 20 > 0
    nothing, turned = score_files.with_texts(replace(table, relevant=own), dict.fromkeys(texts, " "))
    assert turned == 0 and (nothing.relevant == own).all()
    del texts[table.queries[0]]
    with pytest.raises(UserError, match="1 ids have no text, the first is"):
        score_files.with_texts(table, texts)


def test_counting_needs_its_kind_of_file(saved):
    found, table, _ = saved
    filled, rng = score_files.with_lists(table, found, "lists"), np.random.default_rng(0)
    for name in ("fashionbert", "mvlt"):
        with pytest.raises(UserError, match=f"counting as {name} does needs .* a released result file"):
            counting.count(filled, name, "i2t", rng)
    assert doctest.testmod(counting).attempted == 1 and not doctest.testmod(counting).failed


def test_the_right_one_wins_ties_as_fashionsap_counts(saved):
    found, table, _ = saved
    constant = replace(score_files.with_lists(table, found, "lists"), scores=np.where(table.valid, 0.5, -np.inf))
    assert counting.count(constant, "fashionsap", "", np.random.default_rng(0))["rank@1"] == 1.0


def test_half_precision_makes_ties(tmp_path):
    pairs = Long(["q", "q", "q"], ["a", "b", "c"], [1, 0, 0], [8.2, 8.3, -1.0])  # one half-precision share, though b is ahead
    table = score_files.read(write(tmp_path / "a.txt", pairs), "i2t")
    counted = counting.count(table, "mvlt", "i2t", np.random.default_rng(0))
    assert counted["rank@1"] == {"value": 0.5, "pessimistic": 0.0, "optimistic": 1.0} and counted["share_tied"] == 1.0
    assert retrieval.rank_statistics(table.scores, table.relevant, table.valid).ranks().tolist() == [2.0]
