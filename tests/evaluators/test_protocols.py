"""Protocols: the rules of each row, the lists of ours unchanged, files that keep their protocol, draws and their mean."""

from dataclasses import replace

import numpy as np
import pytest

from kaleidobert.configs import RetrieveConfig
from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, retrieval
from kaleidobert.evaluators.candidates import DIRECTIONS, PROTOCOLS, Records
from tests.evaluators.test_candidates import made_up

LENGTH = 12
DRAWN = ("fashionbert", "fashionvil", "fashionsap")
HASHES = {"i2t": "a6dced2687989ebbc5cf1a710354c2ab2d37f3aadc3de8608bf4395bd63b9d82",  # of lists drawn before there were protocols
          "t2i": "d26f48ab1c85f298eb84eea4eb2f64cfd7b6b127d940f3713d92a84e326f7739"}


@pytest.fixture(scope="module")
def records():
    return made_up()


def build(records, direction, name, seed=0, most=1000, length=LENGTH):
    return candidates.build(records, direction, seed, most, length, PROTOCOLS[name])


def columns(records):
    texts = [candidates.normalise(text) for text in records.texts]
    return np.array(records.products), np.array(records.subcategories), np.array(texts), np.array(records.groups)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_our_lists_are_what_they_were(records, direction):
    assert candidates.build(records, direction, seed=3, length=30).sha256 == HASHES[direction]
    assert build(records, direction, "kaleido", 3, length=30).sha256 == HASHES[direction]


def test_names_are_those_of_the_configuration():
    assert all(name == row.name for name, row in PROTOCOLS.items())
    assert {row.counting for row in PROTOCOLS.values()} == {"released", "fashionbert", "expectation", "fashionsap", "mvlt"}
    assert RetrieveConfig.protocol == "kaleido"
    with pytest.raises(UserError, match="unknown protocol 'flickr'; expected: one of kaleido, fashionbert"):
        candidates.protocol_of("flickr")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", DRAWN)
def test_rules(records, direction, name):
    lists, protocol = build(records, direction, name, 1), PROTOCOLS[name]
    products, subcategories, texts, groups = columns(records)
    items, near = 0, 0
    assert lists.protocol == name and len(lists.queries) == (len(products) if protocol.queries == "items" else 60)
    assert len(set(products[lists.queries])) == 60
    for query, row, relevant in zip(lists.queries, lists.candidates, lists.relevant):
        there = row[row >= 0]
        own, others = there[products[there] == products[query]], there[products[there] != products[query]]
        assert len(own) == 1 and len(set(there)) == len(there)
        assert relevant[: len(there)].tolist() == (texts[there] == texts[query]).tolist()
        assert texts[own[0]] == texts[query] and (own[0] == query or direction == "t2i" and protocol.queries == "products")
        allowed = (products != products[query]) & (subcategories == subcategories[query])
        same = allowed.sum() if protocol.others == "items" else len(set(products[allowed]))
        assert (subcategories[others] == subcategories[query]).sum() == min(same, LENGTH - 1)
        if not protocol.fill:
            assert len(others) == min(same, LENGTH - 1)
        else:
            assert len(there) == LENGTH
        assert protocol.others == "items" or len(set(products[others])) == len(others)
        items += len(others) - len(set(products[others]))
        near += (groups[others] == groups[query]).sum()
        if protocol.right == "last":
            assert there[-1] == own[0]
    assert near > 0  # only ours leaves near-duplicates out
    assert (items > 0) == (protocol.others == "items")


def test_fashionbert_lists_may_be_short(records):
    lists = build(records, "i2t", "fashionbert", length=101)
    assert lists.valid.sum(1).max() < 101 and candidates.summary(lists, records)["share_same_subcategory"] == 1.0


def test_right_answers_are_not_told_by_their_place_but_where_the_row_says_so(records):
    places = {name: np.argmax(build(records, "i2t", name, 2).relevant, 1) for name in ("kaleido", "fashionvil")}
    assert all(len(set(found.tolist())) > 8 for found in places.values())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_full_gallery(records, direction):
    lists = build(records, direction, "full", most=3, length=2)  # both are left aside
    products, _, texts, _ = columns(records)
    count, different = len(texts), len(set(texts))
    asked, answers = (count, different) if direction == "i2t" else (different, count)
    assert lists.candidates.shape == (asked, answers) and lists.valid.all() and different < 60 < count
    for query, row, relevant in zip(lists.queries, lists.candidates, lists.relevant):
        owners = set(products[texts == texts[query]])
        expected = texts[row] == texts[query] if direction == "i2t" else [product in owners for product in products[row]]
        assert relevant.tolist() == list(expected)
    gallery = texts[lists.candidates[0] if direction == "i2t" else lists.queries]
    assert len(set(gallery)) == len(gallery) == different
    assert (lists.relevant.sum(1) == 1).all() if direction == "i2t" else (lists.relevant.sum(1) > 1).any()


def test_a_text_finds_views_with_another_text(records):
    records = Records(["a", "b", "c"], ["p", "p", "q"], ["g", "g", "h"], ["s"] * 3, ["red", "blue", "green"])
    lists = build(records, "t2i", "full")
    found = {records.texts[query]: {records.ids[i] for i, right in zip(row, rights) if right}
             for query, row, rights in zip(lists.queries, lists.candidates, lists.relevant)}
    assert found == {"red": {"a", "b"}, "blue": {"a", "b"}, "green": {"c"}}
    lists = build(records, "i2t", "full")
    assert lists.relevant.sum() == 3


@pytest.mark.parametrize("name", [*DRAWN, "full"])
def test_same_seed_same_lists_whatever_the_order_of_the_rows(records, name):
    order = np.random.Generator(np.random.Philox(9)).permutation(len(records.ids))
    shuffled = Records(*([values[i] for i in order] for values in vars(records).values()))
    hashes = [build(of, "i2t", name, 4).sha256 for of in (records, shuffled)]
    assert hashes[0] == hashes[1] != build(records, "i2t", "kaleido", 4).sha256
    assert build(records, "i2t", name, 5).sha256 != hashes[0]


@pytest.mark.parametrize("name", [*DRAWN, "full"])
def test_files_keep_their_protocol(records, name, tmp_path):
    path, lists = tmp_path / "lists.jsonl", build(records, "t2i", name)
    candidates.save(lists, records.ids, path)
    again, saved = candidates.load(path, records.ids), candidates.read(path)
    assert again.protocol == saved.protocol == name and (again.relevant == lists.relevant).all() and again.sha256 == lists.sha256
    assert (again.candidates == lists.candidates).all() and saved.queries == [records.ids[i] for i in lists.queries]
    text = path.read_text()
    path.write_text(text.replace(f'"protocol": "{name}"', '"protocol": "mvlt"', 1))
    with pytest.raises(UserError, match="SHA-256"):
        candidates.read(path)
    ours = build(records, "t2i", "kaleido")
    candidates.save(ours, records.ids, path)
    assert "protocol" not in path.read_text() and candidates.read(path).protocol == "kaleido"


def test_shipped_lists_are_not_drawn(records):
    with pytest.raises(UserError, match="the lists of 'mvlt' are shipped, not drawn.*candidates=FILE"):
        build(records, "i2t", "mvlt")


def test_fashionsap_gives_a_constant_scorer_everything_on_request_only(records):
    lists = build(records, "i2t", "fashionsap")
    report = retrieval.report(np.zeros(lists.candidates.shape), lists.relevant, lists.valid, np.random.default_rng(0), 1)
    first = report["rank@1"]
    assert first["value"] == pytest.approx(first["chance"]) and first["value"] < 0.3 and first["optimistic"] == 1.0


def test_draws_are_averaged(records):
    reports = []
    for seed in range(PROTOCOLS["fashionvil"].draws):
        lists = build(records, "i2t", "fashionvil", seed)
        scores = np.random.default_rng(seed).random(lists.candidates.shape)
        reports.append(retrieval.report(scores, lists.relevant, lists.valid, np.random.default_rng(0), 20))
    mean = retrieval.average(reports)
    values = [report["rank@5"]["value"] for report in reports]
    assert len(set(values)) > 1 and mean["rank@5"]["value"] == pytest.approx(np.mean(values)) and mean["draws"] == 5
    assert (mean["rank@5"]["lowest"], mean["rank@5"]["highest"]) == (min(values), max(values))
    assert mean["rank@5"]["low"] == pytest.approx(np.mean([report["rank@5"]["low"] for report in reports]))
    assert retrieval.average(reports[:1]) is reports[0]


def test_a_protocol_is_a_row_of_its_own(records):
    mine = replace(PROTOCOLS["kaleido"], name="fashionbert", groups=False)
    lists = candidates.build(records, "i2t", 0, 10, 8, mine)
    assert lists.candidates.shape == (10, 8) and lists.valid.all()
