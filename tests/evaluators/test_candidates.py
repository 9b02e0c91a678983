"""Candidate lists: the rules, hand-made cases, independence of row order, files that refuse to be tampered with."""

import csv
import doctest
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, retrieval
from kaleidobert.evaluators.candidates import DIRECTIONS, PROTOCOLS, Records

SHARED = Path(os.environ.get("KALEIDO_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def made_up(num_products: int = 60, seed: int = 0) -> Records:
    """Products of 1-3 views in 4 subcategories of unequal size; groups of up to 3 products; few texts, so that some are equal."""
    rng = np.random.Generator(np.random.Philox(seed))
    ids, products, groups, subcategories, texts = [], [], [], [], []
    for product in range(num_products):
        text, subcategory = f"Red  shirt {rng.integers(25)}", f"s{int(4 * rng.random() ** 2)}"
        for view in range(rng.integers(1, 4)):
            ids.append(f"p{product}/{view}.jpg")
            products.append(f"p{product}")
            groups.append(f"g{product // 3}")
            subcategories.append(subcategory)
            texts.append(text.upper() if view else text)
    return Records(ids, products, groups, subcategories, texts)


def catalogue() -> Records:
    path = SHARED / "fashion/products.csv"
    if not path.exists():
        pytest.skip("the catalogue fashion/products.csv is not here")
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    text = [". ".join(part for part in (row["title"], row["description"]) if part) for row in rows]
    return Records([row["image"] for row in rows], [row["product_id"] for row in rows], [row["group_id"] for row in rows],
                   [row["subcategory_std"] for row in rows], text)


def assert_rules(lists, records, length):
    products, groups = np.array(records.products), np.array(records.groups)
    subcategories, texts = np.array(records.subcategories), np.array([candidates.normalise(text) for text in records.texts])
    assert len(set(products[lists.queries])) == len(lists.queries)
    for query, row, relevant in zip(lists.queries, lists.candidates, lists.relevant):
        there = row[row >= 0]
        assert (row[len(there):] == -1).all() and not relevant[len(there):].any()
        own = products[there] == products[query]
        assert own.sum() == 1 and len(set(products[there])) == len(there)
        assert not (groups[there][~own] == groups[query]).any()
        assert relevant[:len(there)].tolist() == (texts[there] == texts[query]).tolist() and relevant[:len(there)][own].all()
        allowed = groups != groups[query]
        same = len(set(products[allowed & (subcategories == subcategories[query])]))
        assert (subcategories[there][~own] == subcategories[query]).sum() == min(same, length - 1)
        assert len(there) == min(length, 1 + len(set(products[allowed])))
        if lists.direction == "i2t":
            assert there[own] == query


def test_examples_in_docstrings():
    assert doctest.testmod(candidates).attempted == 1
    assert doctest.testmod(candidates).failed == 0


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("length", [8, 30, 101])
def test_rules(direction, length):
    records = made_up()
    lists = candidates.build(records, direction, seed=3, length=length)
    assert lists.candidates.shape == (60, length) and lists.valid.dtype == bool
    assert_rules(lists, records, length)
    assert (lists.relevant.sum(axis=1) > 1).any()  # equal texts in other products occur and count as right


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_rules_on_a_catalogue(direction):
    records = catalogue()
    lists = candidates.build(records, direction, seed=0)
    assert_rules(lists, records, 101)
    found = candidates.summary(lists, records)
    assert found["queries"] == len(set(records.products)) and found["short_lists"] == 0 and found["shortest_list"] == 101
    oracle = retrieval.subcategory_oracle(records.subcategories, lists.queries, lists.candidates)
    standing = retrieval.rank_statistics(oracle, lists.relevant, lists.valid)
    same = oracle.sum(axis=1)  # the right one is one of so many equals
    assert found["share_several_right"] == 0 and standing.hits(1).mean() == pytest.approx((1 / same).mean())


def test_same_seed_same_lists_whatever_the_order_of_the_rows():
    records = made_up()
    order = np.random.Generator(np.random.Philox(9)).permutation(len(records.ids))
    shuffled = Records(*([values[i] for i in order] for values in vars(records).values()))
    for direction in DIRECTIONS:
        one, other = (candidates.build(of, direction, seed=5, max_queries=20) for of in (records, shuffled))
        assert one.sha256 == other.sha256
        assert [records.ids[i] for i in one.queries] == [shuffled.ids[i] for i in other.queries]
        named = [[of.ids[i] for i in lists.candidates[lists.valid]] for of, lists in ((records, one), (shuffled, other))]
        assert named[0] == named[1]
        assert candidates.build(records, direction, seed=6, max_queries=20).sha256 != one.sha256
    assert candidates.build(records, "i2t", seed=5).sha256 != candidates.build(records, "t2i", seed=5).sha256


def test_every_place_query_view_and_other_is_drawn_evenly():
    products = [f"p{i // 2}" for i in range(12)]  # two pictures each
    records = Records([f"{i:02}" for i in range(12)], products, products, ["s"] * 12, products)
    places, queries, rights, others = Counter(), Counter(), Counter(), Counter()
    for seed in range(600):
        lists = candidates.build(records, "t2i", seed, max_queries=1, length=4)
        query, row = int(lists.queries[0]), lists.candidates[0]
        place = int(np.flatnonzero(row // 2 == query // 2)[0])
        queries[query] += 1
        places[place] += 1
        rights[int(row[place]) == query] += 1  # the text's own picture or the product's other one
        others.update(np.delete(row, place).tolist())
    for counter, sides in ((places, 4), (queries, 12), (rights, 2), (others, 12)):
        expected = counter.total() / sides
        assert len(counter) == sides
        chi_square = sum((count - expected) ** 2 / expected for count in counter.values())
        assert chi_square < {2: 10.8, 4: 16.3, 12: 31.3}[sides]  # exceeded once in a thousand


def test_position_tells_nothing_about_the_subcategory():
    records = made_up(300)
    lists = candidates.build(records, "i2t", seed=1)
    oracle = retrieval.subcategory_oracle(records.subcategories, lists.queries, lists.candidates)
    mixed = oracle[oracle.sum(axis=1) < 60]
    assert len(mixed) > 20
    assert mixed[:, :50].mean() == pytest.approx(mixed[:, 51:].mean(), rel=0.1)


def test_short_lists_are_padded_and_reported():
    records = made_up(num_products=7)
    lists = candidates.build(records, "i2t", seed=0, length=101)
    found = candidates.summary(lists, records)
    assert found["short_lists"] == 7 and found["shortest_list"] == 5 and found["list_length"] == 101  # 3 of a group, 7 - 3 others
    assert (lists.valid.sum(axis=1) >= 5).all() and json.loads(json.dumps(found)) == found


def test_the_share_of_the_own_subcategory_is_a_mean_over_queries():
    """Counted by hand; a query counts once, however long its list; other views of its own product are no other candidates."""
    products = ["a", "a", "b", "c", "d", "e"]
    records = Records([f"r{number}" for number in range(6)], products, products, ["s", "s", "s", "s", "t", ""], ["x"] * 6)
    queries = np.array([0, 2, 4, 5])
    found = np.array([[0, 1, 2, 4], [2, 3, 0, -1], [4, 0, 2, -1], [5, 4, 3, 2]])
    lists = candidates.CandidateLists(queries, found, found == queries[:, None], "t2i", 0, "")
    counted = candidates.summary(lists, records)
    assert counted["share_same_subcategory"] == pytest.approx((1 / 2 + 1 + 0) / 3)  # that of e is not known
    assert counted["share_all_same_subcategory"] == pytest.approx(1 / 3)
    nameless = candidates.summary(lists, Records(records.ids, products, products, [""] * 6, ["x"] * 6))
    assert nameless["share_same_subcategory"] is None and nameless["share_all_same_subcategory"] is None


def test_right_picture_shows_the_text_that_was_asked():
    """Views of one product with different texts: the right picture of a text is one that carries it."""
    texts = ["red", "blue", " RED ", "red"]
    records = Records(["a", "b", "c", "d"], ["p", "p", "p", "q"], ["g", "g", "g", "h"], ["s"] * 4, texts)
    rights = set()
    for seed in range(40):
        lists = candidates.build(records, "t2i", seed)
        for query, row, relevant in zip(lists.queries, lists.candidates, lists.relevant):
            right = [int(i) for i in row[:2] if records.products[i] == records.products[query]]
            rights.add((int(query), right[0]))
            both_red = 1 not in row[:2]  # p's and q's text, unless p is seen by its blue view
            assert relevant.tolist() == [both_red or i == right[0] for i in row[:2]] + [False] * 99
    assert rights == {(0, 0), (0, 2), (2, 0), (2, 2), (1, 1), (3, 3)}


def test_a_product_in_two_groups_bars_both():
    names = ["a", "b", "c", "d", "e"]
    records = Records(names, ["p", "p", "q", "r", "s"], ["g", "h", "g", "h", "i"], ["one"] * 5, names)
    for seed in range(5):
        lists = candidates.build(records, "i2t", seed)
        others = {records.products[query]: sorted(records.products[i] for i in row[row >= 0]) for query, row in
                  zip(lists.queries, lists.candidates)}
        assert others == {"p": ["p", "s"], "q": ["q", "r", "s"], "r": ["q", "r", "s"], "s": ["p", "q", "r", "s"]}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_saved_lists_come_back(tmp_path, direction):
    records, path = made_up(num_products=20), tmp_path / "new/lists.jsonl"
    lists = candidates.build(records, direction, seed=2, length=30)
    candidates.save(lists, records.ids, path)
    head, first, *_ = path.read_text(encoding="utf-8").split("\n")
    assert json.loads(head)["sha256"] == lists.sha256
    assert json.loads(first)["query"] == records.ids[lists.queries[0]]
    reordered = [*reversed(records.ids), "another picture"]
    for ids in (records.ids, reordered):
        again = candidates.load(path, ids)
        assert [ids[i] for i in again.queries] == [records.ids[i] for i in lists.queries]
        assert (again.valid == lists.valid).all() and (again.relevant == lists.relevant).all()
        assert [ids[i] for i in again.candidates[again.valid]] == [records.ids[i] for i in lists.candidates[lists.valid]]
        assert (again.sha256, again.seed, again.direction) == (lists.sha256, 2, direction)


def test_changed_files_and_unknown_ids_are_refused(tmp_path):
    records, path = made_up(num_products=20), tmp_path / "lists.jsonl"
    candidates.save(candidates.build(records, "i2t", seed=2, length=10), records.ids, path)
    text = path.read_text(encoding="utf-8")
    head, first, *rest = text.rstrip("\n").split("\n")
    entry = json.loads(first)
    swapped = json.dumps(entry | {"relevant": [entry["relevant"][0] - 1]})
    for changed in ([head, swapped, *rest], [head, first, *rest[:-1]], [head, *rest, first],
                    [head.replace('"seed": 2', '"seed": 3'), first, *rest], [head.replace("i2t", "t2i"), first, *rest]):
        path.write_text("\n".join(changed) + "\n", encoding="utf-8")
        with pytest.raises(UserError, match="SHA-256"):
            candidates.load(path, records.ids)
    for broken in ("", "{}\n", "[1]\n", text[:-20]):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match="not a file of candidate lists"):
            candidates.load(path, records.ids)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="not among the records, the first is 'p"):
        candidates.load(path, records.ids[:10])
    with pytest.raises(UserError, match="no such file"):
        candidates.load(tmp_path / "none.jsonl", records.ids)


def test_saving_under_other_ids_is_refused(tmp_path):
    records = made_up(num_products=20)
    lists = candidates.build(records, "i2t", seed=2, length=10)
    with pytest.raises(UserError, match="the same ids"):
        candidates.save(lists, records.ids[::-1], tmp_path / "lists.jsonl")
    assert not list(tmp_path.iterdir())


def test_ids_may_hold_any_character(tmp_path):
    ids = ["a b", "c\u2028d", 'e"f\n', "Ä,\t"]
    lists = candidates.build(Records(ids, ids, ids, ["s"] * 4, ids), "i2t", seed=0)
    candidates.save(lists, ids, tmp_path / "lists.jsonl")
    assert (candidates.load(tmp_path / "lists.jsonl", ids).candidates == lists.candidates).all()


def test_refusals():
    with pytest.raises(UserError, match="'b2t'.*i2t, t2i"):
        candidates.build(made_up(), "b2t", seed=0)
    with pytest.raises(UserError, match="1 products.*at least two"):
        candidates.build(Records(["a", "b"], ["p", "p"], ["g", "g"], ["s", "s"], ["x", "y"]), "i2t", seed=0)
    with pytest.raises(UserError, match="'a' occurs more than once"):
        Records(["a", "a"], ["p", "q"], ["g", "h"], ["s", "s"], ["x", "y"])
    with pytest.raises(UserError, match="lengths differ"):
        Records(["a", "b"], ["p"], ["g", "h"], ["s", "s"], ["x", "y"])


@pytest.mark.parametrize("protocol", ["kaleido", "fashionvil", "full"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_missing_text_equals_no_other(direction, protocol):
    products = ["p0", "p0", "p1", "p2", "p3"]
    records = Records([f"i{n}" for n in range(5)], products, products, ["s"] * 5, ["", " ", "", "red", "red"])
    lists = candidates.build(records, direction, 0, protocol=PROTOCOLS[protocol])
    for query, row, relevant in zip(lists.queries, lists.candidates, lists.relevant):
        right = {products[record] for record in row[relevant]}
        assert right == ({"p2", "p3"} if query > 2 and 3 in row and 4 in row else {products[query]} if query < 3 else right)
        assert relevant.any() and "p0" not in right - {products[query]} and "p1" not in right - {products[query]}
