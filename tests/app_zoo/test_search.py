"""``kaleidobert index`` and ``search``: what is found against brute force, an index that follows its bank, pages, and bad input."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import io
from kaleidobert.app_zoo.search import folder, search, vectors
from kaleidobert.app_zoo.search.searcher import Answer, Searcher
from kaleidobert.configs.search import SearchConfig
from kaleidobert.datasets.sampling.pretraining import clean_batch
from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.kaleidobert import CONTRASTIVE_MATCH
from tests.support.apps_data import edit, refused
from tests.support.search_data import World, call, lines

pytestmark = pytest.mark.eager
WORDS = "red tote with stripes"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A catalogue with its index; read only."""
    with pytest.MonkeyPatch.context() as patch:
        from tests.support.quick import run_eagerly

        run_eagerly(patch)
        world = World(tmp_path_factory.mktemp("search"))
        done = world.index()
        assert done.status == 0, done.err
        world.searcher = Searcher(world.folder / "index")
        yield world


def itm(world: World, pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """logit[1] of pairs of rows, by the whole network."""
    return steps.forward(world.model)(clean_batch(world.bank, pictures, texts))["itm"][:, 1]


def expected(world: World, scores: np.ndarray, top: int) -> list[str]:
    """Image ids of the best views of the best products, by scores of all rows."""
    rows = sorted(range(world.bank.size), key=lambda row: -scores[row])
    best: dict[str, str] = {}
    for row in rows:
        best.setdefault(world.bank.table[row]["product_id"], world.bank.table[row]["image_id"])
    return list(best.values())[:top]


def everything(world: World, row: int) -> np.ndarray:
    """The matching logits of the text of a row with all pictures."""
    rows = np.arange(world.bank.size)
    return itm(world, rows, np.full_like(rows, row))


# --- both stages against brute force


def test_stage_one_is_what_contrast_and_towers_add_to_the_logit(world):
    row, rows = 3, np.arange(world.bank.size)
    whole, gain = everything(world, row), world.model.get_layer(CONTRASTIVE_MATCH).gain
    towers = whole - steps.forward(world.model)(clean_batch(world.bank, rows, np.full_like(rows, row)))["own"][:, 1]
    value = float(gain.value)
    gain.assign(0.0)
    contrast = whole - everything(world, row)
    gain.assign(value)
    assert np.std(contrast) > 0.1 and np.std(towers) > 0.1
    hits = world.searcher.search(world.bank.table[row]["text"], top=50, rerank=0)
    assert [hit.image_id for hit in hits] == expected(world, contrast + towers, 50) and len(hits) == 24
    ids = world.bank.column("image_id").tolist()
    np.testing.assert_allclose([hit.first_score for hit in hits], [(contrast + towers)[ids.index(hit.image_id)] for hit in hits], atol=1e-4)
    assert all(hit.score == hit.first_score for hit in hits)


def test_both_stages_over_the_whole_gallery_are_the_network_over_all_pairs(world):
    ids = world.bank.column("image_id").tolist()
    for row in (0, 5, 11):
        whole = everything(world, row)
        hits = world.searcher.search(world.bank.table[row]["text"], top=24, rerank=world.bank.size)
        assert [hit.image_id for hit in hits] == expected(world, whole, 24)
        np.testing.assert_allclose([hit.score for hit in hits], [whole[ids.index(hit.image_id)] for hit in hits], atol=1e-4)


def test_stage_two_orders_the_first_of_stage_one_and_nothing_else(world):
    text, ids = world.bank.table[7]["text"], world.bank.column("image_id").tolist()
    stored, whole = folder.read(world.folder / "index"), everything(world, 7)
    first = stored.vectors["pictures"] @ stored.vectors["texts"][7]
    kept = np.argsort(-first, kind="stable")[:9]
    answer = world.searcher.answer(text, top=4, rerank=9)
    assert answer.reranked and answer.candidates == 9 and answer.searched == world.bank.size
    limited = np.full(world.bank.size, -np.inf)
    limited[kept] = whole[kept]
    assert [hit.image_id for hit in answer.hits] == expected(world, limited, 4)
    assert [hit.first_score for hit in answer.hits] == pytest.approx([first[ids.index(hit.image_id)] for hit in answer.hits], abs=1e-4)


def test_a_picture_finds_its_text_and_itself(world):
    row = 8
    rows = np.arange(world.bank.size)
    by_text = world.searcher.search(picture=world.picture(row), find="texts", top=24, rerank=100)
    whole = itm(world, np.full_like(rows, row), rows)
    assert sorted(hit.score for hit in by_text)[::-1] == [hit.score for hit in by_text]
    assert [hit.product_id for hit in by_text] == [world.bank.table[[*world.bank.column("image_id")].index(one)]["product_id"]
                                                   for one in expected(world, whole, 24)]
    alone = world.searcher.search(picture=world.picture(row), rerank=0, top=3)
    assert alone[0].image_id == world.bank.table[row]["image_id"] and alone[0].score == pytest.approx(1, abs=1e-4)
    assert alone[1].score < 1


def test_words_and_a_picture_count_both(world):
    picture, stored = world.picture(2), folder.read(world.folder / "index")
    both = world.searcher.search("navy", picture, top=24, rerank=0)
    unit = stored.vectors["pictures"] / np.linalg.norm(stored.vectors["pictures"], axis=1, keepdims=True)
    words = vectors.MatcherEncoder(world.model, "").texts(world.searcher._reader.texts(["navy"]), ["navy"])[0]
    spread = stored.info["spread"]
    by_hand = stored.vectors["pictures"] @ words / spread["pair"] + unit @ unit[2] / spread["pictures"]
    assert [hit.image_id for hit in both] == expected(world, by_hand, 24)
    assert {hit.image_id for hit in both} - {hit.image_id for hit in world.searcher.search("navy", top=24, rerank=0)}
    assert world.searcher.search("navy", picture, top=3, rerank=30)[0].score != both[0].score


def test_a_product_appears_once_with_its_best_view(world):
    views = {row["product_id"] for row in world.bank.table if row["view"] == "back"}
    hits = world.searcher.search(WORDS, top=100, rerank=0)
    assert views and len({hit.product_id for hit in hits}) == len(hits) == 24
    assert len(world.searcher.search(WORDS, top=5, rerank=5)) == 5  # though several of the first are views of one product


def test_filters_leave_what_fits_and_search_all_of_it(world):
    hits = world.searcher.search(WORDS, top=100, filters={"category": "BAGS", "colour": ["red", "navy"]})
    fits = {row["product_id"] for row in world.bank.table
            if row["labels"]["category"] == "bags" and row["labels"]["colour"] in ("red", "navy")}
    assert {hit.product_id for hit in hits} == fits != set()
    assert world.searcher.labels()["subcategory"] == ["clutch", "shirt", "tote", "vest"]
    answer = world.searcher.answer(WORDS, filters={"category": "bags", "subcategory": "shirt"})
    assert not answer.hits and "no product has all these labels" in answer.notes
    done = world.search(WORDS, "filter.category=bags", "filter.subcategory=shirt")
    assert done.status == 0 and "0 products" in done.out


def test_threads_get_what_one_gets(world):
    queries = [{"text": row["text"]} for row in world.bank.table[:4]] + [{"picture": world.picture(row)} for row in range(2)]
    searcher = Searcher(world.folder / "index")  # whose networks the threads build
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda query: searcher.search(**query, top=5, rerank=20), queries))
    assert together == [world.searcher.search(**query, top=5, rerank=20) for query in queries]


# --- the index


def contents(path: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in path.iterdir()}


def counts(done) -> list[str]:
    assert done.status == 0, done.err
    return re.findall(r"^(?:pictures|texts): .*", done.out, re.M)


def test_an_index_that_follows_its_bank_is_the_one_made_from_nothing(tmp_path):
    world = World(tmp_path)
    assert counts(world.index()) == ["pictures: 32, of which 0 kept and 32 made", "texts: 32, of which 0 kept and 32 made"]
    first = contents(tmp_path / "index")
    assert counts(world.index())[0] == "pictures: 32, of which 32 kept and 0 made" and contents(tmp_path / "index") == first

    def change(rows):
        rows[4]["text"] = "green vest with golden dots"
        del rows[10]
        rows.insert(0, {**rows[3], "id": "new", "text": "purple tote for the office", "colour": "purple"})

    edit(world.source, change)
    shutil.rmtree(tmp_path / "bank")
    world.make_bank("bank")
    refused(world.search("red"), "the index is of an older bank.*run `kaleidobert index` again")
    dry = world.index("index", "--dry-run")
    assert "texts: 32, of which 30 would be kept and 2 made" in dry.out, dry.out
    assert counts(world.index()) == ["pictures: 32, of which 32 kept and 0 made; 1 gone", "texts: 32, of which 30 kept and 2 made; 1 gone"]
    assert counts(world.index("anew"))[0] == "pictures: 32, of which 0 kept and 32 made"
    assert contents(tmp_path / "index") == contents(tmp_path / "anew") != first


def test_an_interrupted_index_continues(tmp_path, monkeypatch):
    world, made = World(tmp_path, 12), []
    monkeypatch.setattr(folder, "PART", 8)
    whole = vectors.MatcherEncoder.pictures

    def some(self, inputs):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return whole(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(vectors.MatcherEncoder, "pictures", some)
        assert world.index().status == 130
    refused(world.search("red"), "the index is half written.*it continues where it stopped")
    kept = int(re.search(r"of which (\d+) kept", counts(world.index())[0])[1])
    assert 0 < kept < 16
    world.index("anew")
    assert contents(tmp_path / "index") == contents(tmp_path / "anew")


def test_kinds_find_the_same_here(world):
    done = world.index("hnsw", "kind=hnsw")
    assert done.status == 0 and "kind hnsw (as set)" in done.out, done.err
    found, all_of = (searcher.search(WORDS, top=5, rerank=0) for searcher in (Searcher(world.folder / "hnsw"), world.searcher))
    assert [hit.image_id for hit in found] == [hit.image_id for hit in all_of]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in all_of], rel=1e-5)  # sums in another order
    assert len(list((world.folder / "hnsw").glob("*.faiss"))) == 2 and not list((world.folder / "index").glob("*.faiss"))
    refused(world.index("hnsw", "kind=ivf"), "vectors are too few for kind ivf.*set kind=auto")
    assert Searcher(world.folder / "hnsw").info["kind"] == "hnsw"  # what was there still is


def test_a_model_without_vectors_is_searched_by_features_and_words(tmp_path):
    world = World(tmp_path, 12, head="plain")
    for init in (False, True):
        done = world.index("index", *([] if init else ["init="]))
        assert done.status == 0 and "stage one: frozen features and TF-IDF, by ridge regression" in done.out, done.err
        before = contents(world.folder / "index")
        assert counts(world.index("index", *([] if init else ["init="])))[1] == "texts: 16, of which 16 kept and 0 made"
        assert contents(world.folder / "index") == before
        searcher = Searcher(world.folder / "index")
        answer = searcher.answer(world.bank.table[6]["text"], top=3)
        assert answer.reranked == init and ("stage one alone: the index has no checkpoint" in " ".join(answer.notes)) != init
        assert searcher.search(picture=world.picture(4), rerank=0)[0].image_id == world.bank.table[4]["image_id"]
        with pytest.raises(UserError, match="no word of the query is known"):
            searcher.search("qq")  # in pieces the vocabulary knows it, as a word it does not


def test_of_some_splits(world):
    assert world.index("val", "data.splits=[val]").status == 0
    searcher = Searcher(world.folder / "val")
    rows = world.bank.rows("val")
    ids = set(world.bank.column("image_id")[rows])
    assert searcher.size == len(rows) and {hit.image_id for hit in searcher.search(WORDS, top=99, rerank=0)} <= ids


# --- the command


def test_a_table_lines_and_a_page(world, tmp_path):
    done = world.search(*WORDS.split(), "top=6", "rerank=12", f"page={tmp_path / 'a.html'}", f"out={tmp_path / 'a.jsonl'}")
    assert done.status == 0 and "the first 12 re-ranked by the matching head" in done.out, done.err
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    hits = world.searcher.search(WORDS, top=6, rerank=12)
    assert [one["image_id"] for one in found] == [hit.image_id for hit in hits]
    assert found == lines(world.search(WORDS, "top=6", "rerank=12", "format=json"))
    assert set(found[0]) == {"image_id", "product_id", "score", "first_score", "text", "labels", "image_path"}
    for number, hit in enumerate(hits, 1):
        assert re.search(rf"^ +{number} +{hit.score:.3f} +{hit.first_score:.3f}  {re.escape(hit.image_id)} ", done.out, re.M), done.out
    html = (tmp_path / "a.html").read_text()
    assert html.count('src="data:image/jpeg;base64,') == html.count("<img") == 6 and WORDS in html
    assert not re.search(r"https?://|url\(|<script|<link|@import|src=\"(?!data:)", html)


def test_pictures_that_are_gone_are_said(world, tmp_path, monkeypatch):
    shutil.move(world.folder / "catalogue", world.folder / "elsewhere")
    try:
        done = world.search(WORDS, "top=4", f"page={tmp_path / 'b.html'}")
    finally:
        shutil.move(world.folder / "elsewhere", world.folder / "catalogue")
    assert done.status == 0 and "the page shows 4 of 4 products without a picture" in done.out, done.err
    html = (tmp_path / "b.html").read_text()
    assert html.count("no picture") == 4 and "<img" not in html and "4 of the pictures do not lie any more" in html


def test_a_picture_and_words_in_any_order(world, tmp_path):
    first = lines(world.search(world.picture(3), "in", "navy", "top=3", "format=json"))
    assert first == lines(world.search("in", "top=3", world.picture(3), "format=json", "navy"))
    done = world.search(world.picture(3), "in navy", f"page={tmp_path / 'c.html'}", "top=3", "a=b")  # no key: a word
    assert done.status == 0 and "a=b" in done.out and (tmp_path / "c.html").read_text().count("<img") == 4, done.err
    assert "not more products" not in done.out and "there are no more products" in world.search("red", "top=500").out


@pytest.mark.parametrize("words, message", [
    ([], "there is no query.*expected: words, a picture or both"),
    (["红"], "no word of the query is known to the vocabulary of the bank"),
    (["red", "filter.categry=bags"], "the label of a filter is 'categry'.*did you mean 'category'"),
    (["red", "filter.category=bag"], "no product has the category 'bag'; expected: one of bags, tops; to fix: did you mean 'bags'"),
    (["red", "top=0"], "top is 0; expected: at least 1"), (["red", "rerank=-1"], "rerank is -1"),
    (["red", "format=xml"], "format is 'xml'; expected: one of table, json"), (["nowhere.jpg"], "nowhere.jpg: there is no such picture"),
    (["red", "page=."], "this is a folder"),
])
def test_bad_queries(world, words, message):
    refused(world.search(*words), message)


def test_a_picture_that_is_none(world, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    for flags in ([], ["--dry-run"]):
        refused(world.search(str(tmp_path / "text.jpg"), *flags), "text.jpg: the picture cannot be decoded")
    refused(world.search(world.picture(0), world.picture(1)), "2 pictures are named.*at most one")


def test_indices_that_cannot_be_searched(world, tmp_path):
    refused(call("search", str(tmp_path / "none"), "red"), "there is no index.*kaleidobert index")
    for number, (name, spoil, message) in enumerate((
        ("pictures-*.npy", lambda path: path.write_bytes(path.read_bytes()[:-9]), "the index is damaged: pictures-.* has .* bytes"),
        ("texts-*.npy", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "the index is damaged: the content of texts-"),
        ("digests-*.npy", Path.unlink, "the index is damaged: digests-.* is missing"),
        ("index.json", lambda path: path.write_text("{"), "index.json: not valid JSON"),
        ("index.json", lambda path: path.write_text("{}"), "the index has format None; expected: format 1"),
    )):
        target = tmp_path / str(number)
        shutil.copytree(world.folder / "index", target)
        spoil(next(target.glob(name)))
        refused(call("search", str(target), "red"), message)
    done = call("index", f"index={tmp_path / '0'}", f"data.bank={world.folder / 'bank'}", f"init={world.checkpoint}",
                "predict_batch_size=8")
    assert done.status == 0 and "the index that was there is not used: the index is damaged" in done.out
    assert contents(tmp_path / "0") == contents(world.folder / "index")


def test_an_index_of_another_model_or_bank(world, tmp_path):
    index = str(world.folder / "index")
    other = tmp_path / "best.npz"
    shutil.copy(world.checkpoint, other)
    assert call("search", index, "red", f"init={other}", f"bank={world.folder / 'bank'}", "top=2").status == 0
    other.write_bytes(other.read_bytes() + b" ")
    refused(call("search", index, "red", f"init={other}"), "the index is of another model.*with sha256")
    refused(call("search", index, "red", f"init={tmp_path / 'gone.npz'}"), "gone.npz: there is no such checkpoint")
    refused(call("search", index, "red", f"bank={tmp_path}"), "there is no finished bank")


def test_targets_and_checkpoints_of_an_index(world, tmp_path):
    (tmp_path / "photo.jpg").write_text("mine")
    for flags in ([], ["--dry-run"]):
        refused(world.index(str(tmp_path), *flags), "not empty and holds no index.*index=")
        refused(world.index("x", "init=nowhere.npz", *flags), "nowhere.npz: there is no such checkpoint")
        refused(world.index("x", "predict_batch_size=0", *flags), "predict_batch_size is 0")
    assert not (world.folder / "x").exists()
    with io.locked(world.folder / "index"):
        assert call("search", str(world.folder / "index"), "red").status == 0  # reading takes no lock


def tree(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def test_a_folder_of_something_else_is_refused_and_kept(world, tmp_path):
    shutil.copytree(world.folder / "bank", tmp_path / "bank")
    index = tmp_path / "index"
    shutil.copytree(world.folder / "index", index)
    for name, content in (("thesis/work/thesis.txt", "mine"), ("thesis/photo.txt", "mine"), ("only/work/thesis.txt", "mine"),
                          ("foreign/index.json", '{"format": 1, "files": {}}'), ("foreign/page.html", "mine"),
                          ("cut/index.json", '{"format": 1, "ident'), ("cut/rows-0123456789ab.npy", ""), ("mark/work/work.json", "{"),
                          ("index/work/thesis.txt", "mine"), ("rest/rows-0123456789ab.npy", "")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    before = tree(tmp_path)
    for flags in ([], ["--dry-run"]):
        for name, message in (("bank", "index.json is of something else, such as a bank"), ("thesis", "holds no index, but photo.txt"),
                              ("only", "but work, a folder that holds thesis.txt"), ("foreign", "index.json is of something else"),
                              ("cut", "not valid JSON.*delete the folder if it is an index"), ("mark", "holds work.json.*delete it"),
                              ("index", "work is not that of an unfinished index: .*thesis.txt"), ("rest", "delete the folder")):
            refused(world.index(str(tmp_path / name), *flags), message, "index=")
    assert tree(tmp_path) == before
    refused(call("search", str(tmp_path / "foreign"), "red"), "its index.json is of something else")


def test_only_files_of_an_index_are_deleted(world, tmp_path):
    index = tmp_path / "index"
    shutil.copytree(world.folder / "index", index)
    own = tree(index)
    assert all(folder.OWN.fullmatch(name) for name in own if name != "index.json")
    mine = {"x.jsonl": b"mine", ".x.tmp": b"mine", "rows-mine.npy": b"mine", "notes/a.txt": b"mine", "work/a.txt": b"mine"}
    old = ("rows-0123456789ab.npy", ".index.json.12-34.tmp", "work/pictures-00000.npy", "work/pictures-00000-digests.npy")
    for name, content in {**mine, **dict.fromkeys(old, b"old"), "work/work.json": b'{"unfinished_index": {}}'}.items():
        (index / name).parent.mkdir(exist_ok=True)
        (index / name).write_bytes(content)
    assert counts(world.index(str(index)))[0] == "pictures: 32, of which 32 kept and 0 made"
    assert tree(index) == own | mine


def test_a_bank_that_is_replaced_while_it_is_read(world, tmp_path, monkeypatch):
    shutil.copytree(world.folder / "bank", tmp_path / "bank")
    digests = vectors.digests

    def replaced(*given):
        info = tmp_path / "bank/index.json"
        info.write_text(info.read_text() + " ")
        return digests(*given)

    monkeypatch.setattr(vectors, "digests", replaced)
    refused(world.index(str(tmp_path / "index"), f"data.bank={tmp_path / 'bank'}"), "the bank was replaced while it was read.*again")
    assert not (tmp_path / "index").exists()


def test_texts_and_filters_that_are_none(world):
    for flags in ([], ["--dry-run"]):
        refused(world.search("bl\udcffue", *flags), "character . of the text is none.*expected: UTF-8 text")
    for query, message in (({"text": 7}, "a text is a int"), ({"text": "\ud800"}, "character 1 of the text"),
                           ({"filters": {"category": 42}}, "the filter 'category' holds 42, a int"),
                           ({"filters": {"category": ["bags", None]}}, "holds None"), ({"filters": {"category": b"bags"}}, "a bytes"),
                           ({"filters": {1: "bags"}}, "the filter 1 holds 1"), ({"filters": "bags"}, "the filters are a str")):
        with pytest.raises(UserError, match=message):
            world.searcher.search(**{"text": "red", **query})


def test_notes_of_json_go_to_standard_error(world):
    done = world.search("red", "qq", "top=500", "format=json")
    table = world.search("red", "qq", "top=500").out
    notes = re.findall("^note: .*", table, re.M)
    assert len(lines(done)) == len(done.out.splitlines()) == 24 and "note: 500 were asked for, and there are no more products" in notes
    assert re.findall("^note: .*", done.err, re.M) == notes
    assert "note" not in world.search("red", "top=5", "format=json").err


def test_fewer_than_asked_for_by_lists_or_graph_are_not_all_there_are(world):
    query, hits = SearchConfig(index=world.folder, text="red", top=9), world.searcher.search("red", top=3)
    for answer, message in ((Answer(hits, False, 32, 32, []), "there are no more products"),
                            (Answer(hits, False, 5, 32, []), "no more were found"),
                            (Answer([], False, 0, 32, []), "no more were found")):
        for shown in (search.table(query, answer), search.page(query, answer, [None] * len(answer.hits), "")):
            assert f"9 were asked for, and {message}" in shown and ("there are no more" in shown) == ("there are" in message)
    assert "asked for" not in search.table(query, Answer([], False, 0, 0, []))


def test_the_folder_of_a_run_stands_for_its_best_checkpoint(world, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(world.checkpoint, run / "best.npz")
    done = world.index("of_run", f"init={run}")
    assert done.status == 0 and json.loads((world.folder / "of_run/index.json").read_text())["model"]["checkpoint"].endswith("run/best.npz")
    assert Searcher(world.folder / "of_run").search(WORDS, top=3) == world.searcher.search(WORDS, top=3)
