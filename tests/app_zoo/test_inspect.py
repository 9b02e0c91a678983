"""``kaleidobert inspect``: files in the run folder, and what is refused."""

import contextlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert.app_zoo.inspect import inspect
from kaleidobert.app_zoo.inspect import pictures as inspect_pictures
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import classifier, pretrainer
from tests.support.inspect_data import TITLE, World, change
from tests.support.tables import TABLES, TWO

pytestmark = [pytest.mark.slow, pytest.mark.eager]


@pytest.fixture(scope="module", params=TABLES)
def world(request, tmp_path_factory):
    return World(tmp_path_factory.mktemp(request.param), TABLES[request.param])


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return World(tmp_path_factory.mktemp("errors"), KALEIDO)


@pytest.fixture(scope="module", params=[True, False])
def pages(request, world, tmp_path_factory):
    """(the folder of two pages, whether a model answers, what was printed)."""
    run = tmp_path_factory.mktemp("pages") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        inspect.run(world.config(run, count=2, checkpoint=world.checkpoint if request.param else None))
    return run, request.param, out.getvalue()


def test_run_writes_a_page_per_picture(world, pages):
    run, with_model, out = pages
    assert str(run / "index.html") in out
    results = json.loads((run / "results.json").read_text())
    index = (run / "index.html").read_text()
    assert len(results["pages"]) == 2
    for entry in results["pages"]:
        assert world.bank.table[[row["image_id"] for row in world.bank.table].index(entry["image_id"])]["split"] == "val"
        assert list(entry["right"]) == ["itm", *(level.name for level in world.levels)]
        assert {type(right) for right in entry["right"].values()} == ({bool} if with_model else {type(None)})
        assert f'href="{entry["html"]}"' in index
        html = (run / entry["html"]).read_text()
        assert entry["image_id"] in html and ('class="guess' in html) == with_model
        assert html.count("data:image/jpeg;base64,") >= 1 + len(world.levels)
    assert {path.suffix for path in run.iterdir()} == {".html", ".json", ".yaml"}


def test_pages_need_nothing_from_outside(pages):
    run, *_ = pages
    for path in run.glob("*.html"):
        html = path.read_text()
        assert "<script" not in html and "@import" not in html and "url(" not in html
        assert set(re.findall(r'src="([^"]{10})', html)) == {"data:image"}
        for link in re.findall(r'href="([^"]*)"', html):
            assert (run / link).is_file()


def test_the_same_configuration_gives_the_same_pages_whatever_else_is_inspected(five, tmp_path):
    ids = [row["image_id"] for row in five.bank.table]
    for name, products in (("a", (ids[2], ids[5])), ("b", (ids[5],))):
        inspect.run(five.config(tmp_path / name, products=products))
    pages = [next((tmp_path / name).glob(f"*{inspect.file_name(ids[5])}.html")).read_bytes() for name in "ab"]
    assert pages[0] == pages[1]
    inspect.run(five.config(tmp_path / "c", products=(ids[5],), seed=1))
    truths = [re.findall("Truth: <b>(.*?)</b>", next((tmp_path / name).glob("01*.html")).read_text()) for name in "bc"]
    assert len(truths[0]) == len(truths[1]) == 1 + len(KALEIDO) and truths[0] != truths[1]


def test_a_picture_taken_whole_says_why_and_texts_are_escaped(five, tmp_path):
    inspect.run(five.config(tmp_path / "run", products=("p01/front", "p00/front")))
    whole, escaped = [path.read_text() for path in sorted((tmp_path / "run").glob("0*.html"))]
    assert "The whole picture was taken: no foreground found." in whole and "The whole picture" not in escaped
    assert TITLE not in escaped and "&lt;c&gt;&#34;A&#34; &amp; B&lt;/c&gt; red cap" in escaped


def test_masks_and_parts_are_shown_where_known(five, tmp_path):
    inspect.run(five.config(tmp_path / "with", products=("p05/front",), source=five.source))
    assert "foreground and its box" in next((tmp_path / "with").glob("01*.html")).read_text()
    inspect.run(five.config(tmp_path / "without", products=("p05/front",)))
    html = next((tmp_path / "without").glob("01*.html")).read_text()
    assert "foreground and its box" not in html and "described parts" in html
    mask = np.zeros((52, 40), bool)
    mask[10:20, 10:20] = True
    grey = np.full((52, 40, 3), 90, np.uint8)
    shown = np.asarray(inspect_pictures.foreground(grey, (5, 5, 25, 25), mask, side=520))
    assert (shown[150, 150] == 90).all() and (shown[400, 300] > 150).all()  # the background is faded, the product is not


def test_a_dry_run_writes_nothing(five, tmp_path, capsys):
    inspect.dry_run(five.config(tmp_path / "run", count=2, checkpoint=five.checkpoint))
    assert "2 pages" in capsys.readouterr().out and not (tmp_path / "run").exists()


def test_the_checkpoints_own_numbers_of_masked_patches_count(five, tmp_path):
    levels = tuple(replace(level, num_masked=4) if level.name == "blank" else level for level in KALEIDO)
    checkpoints.save(tmp_path / "four.npz", pretrainer(five.sizes(levels=levels)))
    inspect.run(five.config(tmp_path / "run", count=1, checkpoint=tmp_path / "four.npz"))
    blank = next((tmp_path / "run").glob("01*.html")).read_text().split("5  blank")[1]
    assert len(re.findall("<td>patch ", blank)) == 4


@pytest.mark.parametrize("changes, message", [
    ({"products": ("p05/fornt",)}, "did you mean 'p05/front'"),
    ({"products": ("p06",)}, "did you mean 'p06/front' or 'p06/back'"),
    ({"count": 0}, "count is 0"),
    ({"data": {"encoder": "resnet50-224"}}, "'pixels-8'"),
    ({"data": {"val_split": "test"}}, "'test' is empty"),
    ({"sampling": configs.Sampling(masking="alignment_guided")}, "no alignment"),
    ({"checkpoint": Path("nowhere.npz")}, "no such checkpoint"),
])
def test_refusals(five, tmp_path, changes, message):
    config = five.config(tmp_path / "run", **{name: value for name, value in changes.items() if name != "data"})
    config = replace(config, data=replace(config.data, **changes.get("data", {})))
    with pytest.raises(UserError, match=re.escape(message)):
        inspect.run(config)


@pytest.mark.parametrize("sizes, message", [
    ({"levels": TWO}, "the bank was made with levels"), ({"feature_size": 12}, "does not fit.*feature_size"),
    ({"vocabulary_size": 40}, "does not fit.*vocabulary_size")])
def test_a_checkpoint_that_does_not_fit_is_refused(five, tmp_path, sizes, message):
    checkpoints.save(tmp_path / "other.npz", pretrainer(five.sizes(**sizes)))
    for command in (inspect.run, inspect.dry_run):
        with pytest.raises(UserError, match=message):
            command(five.config(tmp_path / "run", checkpoint=tmp_path / "other.npz"))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_task_or_with_broken_numbers_is_refused(five, tmp_path):
    checkpoints.save(tmp_path / "classes.npz", classifier(five.sizes(), 3))
    with pytest.raises(UserError, match="holds a 'classifier'"):
        inspect.run(five.config(tmp_path / "run", checkpoint=tmp_path / "classes.npz"))
    model = pretrainer(five.sizes())
    model.get_layer("head_itm").bias.assign([np.nan, 0])
    checkpoints.save(tmp_path / "nan.npz", model)
    with pytest.raises(UserError, match="not finite"):
        inspect.run(five.config(tmp_path / "run", checkpoint=tmp_path / "nan.npz"))


def test_pictures_that_are_gone_moved_or_changed(tmp_path):
    world = World(tmp_path / "world", TWO)
    picture = Path(world.bank.table[4]["image_path"])
    config = world.config(tmp_path / "run", products=(world.bank.table[4]["image_id"],))
    moved = tmp_path / "moved"
    (tmp_path / "world/catalogue").rename(moved)
    with pytest.raises(UserError, match=f"no such picture.*{re.escape(str(picture))}|{re.escape(str(picture))}.*no such picture"):
        inspect.run(config)
    assert not (tmp_path / "run").exists()
    source = replace(world.source, table=moved / "table.jsonl")
    inspect.run(replace(config, source=source))
    Image.new("RGB", (80, 52)).save(moved / picture.name)
    with pytest.raises(UserError, match=r"the picture \(80 x 52\) is not the one"):
        inspect.run(replace(config, source=source))
    change(source, 4, id="renamed")
    with pytest.raises(UserError, match="there is no picture"):
        inspect.run(replace(config, source=source))


def test_a_mask_of_another_size_is_refused(tmp_path):
    world = World(tmp_path / "world", TWO)
    Image.new("L", (10, 10), 255).save(tmp_path / "world/catalogue/p05-front-mask.png")
    with pytest.raises(UserError, match="the mask is 10 x 10"):
        inspect.run(world.config(tmp_path / "run", products=("p05/front",), source=world.source))


def test_a_folder_with_other_pages_is_refused(five, tmp_path):
    inspect.run(five.config(tmp_path / "run", count=1))
    inspect.run(five.config(tmp_path / "run", count=1))  # the same pages again
    with pytest.raises(UserError, match="holds another run"):
        inspect.run(five.config(tmp_path / "run", count=2))
