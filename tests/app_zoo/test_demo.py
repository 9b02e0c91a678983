"""``kaleidobert demo``: its answers, what may be uploaded, and its page in a browser; several ask at once."""

import io
import os
import re
import signal
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert.app_zoo.demo import demo, studio
from kaleidobert.app_zoo.demo.studio import Studio, read_upload
from kaleidobert.configs.search import DemoConfig
from kaleidobert.errors import UserError
from tests.support.apps_data import TRAIN, World, call
from tests.support.quick import run_eagerly, still
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A bank and finished runs, hardly trained; the index is made by the demo."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch)
        still(patch)
        world = World(folder, TWO, tiny_bank(folder, TWO))
        matching = configs.Matching("dual_encoder", "listwise", 2, width=8)
        for name, config in (
            ("pretrain", world.pretrain(train=replace(TRAIN, epochs=1), losses=configs.Losses(itc_weight=1.0))),
            ("classify", world.classify("cat")),
            ("classify", world.classify("subcat", label="subcategory", modality="image")),
            ("retrieve", world.retrieve("i2t", 1, matching=matching, dual_encoder=TRAIN)),
            ("caption", world.caption("caption", mode="causal", held_out=0.0, train=replace(TRAIN, epochs=1))),
        ):
            done = call(name, config)
            assert done.status == 0, done.err
    return world


@pytest.fixture(scope="module")
def config(world) -> DemoConfig:
    return DemoConfig(run=world.folder, top=5, rerank=8, max_megabytes=1.0)


@pytest.fixture(scope="module")
def opened(config) -> Studio:
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch)
        return demo.open_studio(config)


# --- What it answers


def test_a_product_is_shown_with_what_every_head_says_of_it(world, opened):
    row = world.bank.table[3]
    view = opened.product(row["image_id"])
    assert (view.image_id, view.text) == (row["image_id"], row["text"]) and view.other != view.text
    assert row["image_id"] in view.html and "All pictures" not in view.html  # it stands alone: there is no other page
    assert set(view.answer.labels) == {"category", "subcategory"} and view.answer.caption
    for classes in view.answer.labels.values():
        assert 0 < sum(classes.values()) <= 1 + 1e-6 and len(classes) <= 5
    assert 0 <= view.answer.match <= 1 and 0 <= view.other_match <= 1


def test_an_uploaded_picture_of_the_catalogue_gets_the_answers_of_its_product(world, opened):
    row = world.bank.table[3]
    view, image = opened.product(row["image_id"]), np.asarray(Image.open(row["image_path"]).convert("RGB"))
    answer = opened.look_at(image, row["text"])
    assert answer.caption == view.answer.caption and answer.match == pytest.approx(view.answer.match, abs=1e-3)
    for name, classes in view.answer.labels.items():
        assert answer.labels[name] == pytest.approx(classes, abs=1e-3)


def test_a_label_learnt_from_texts_too_is_read_without_a_text_and_says_so(world, opened):
    image = np.asarray(Image.open(world.bank.table[3]["image_path"]).convert("RGB"))
    answer = opened.look_at(image, "  ")
    assert set(answer.labels) == {"category", "subcategory"} and answer.match is None
    assert answer.notes == ("category was learnt from pictures and texts together: a text makes it surer",)
    assert answer.labels["subcategory"] == opened.look_at(image, world.bank.table[9]["text"]).labels["subcategory"]


def test_without_pages_the_rest_is_there_and_says_why_they_are_not(world, config, monkeypatch, capsys):
    def refuse(config):
        raise UserError("the alignment is of another bank", "bank")

    monkeypatch.setattr(demo, "Inspector", refuse)
    opened = demo.open_studio(config)
    assert "products are not shown: " in capsys.readouterr().out
    assert opened.search(world.bank.table[0]["text"], None, {}, 1, 0).hits
    with pytest.raises(UserError, match="products are not shown: bank: the alignment is of another bank"):
        opened.product(world.bank.table[0]["image_id"])


def test_a_search_keeps_to_its_filters_and_to_top(world, opened):
    value = opened.choices["category"][0]
    answer = opened.search(world.bank.table[0]["text"], None, {"category": [value], "subcategory": []}, 3, 8)
    assert 1 <= len(answer.hits) <= 3 and {hit.labels["category"] for hit in answer.hits} == {value}
    with pytest.raises(UserError, match="there is no query"):
        opened.search("  ", None, {}, 3, 8)


def test_an_unknown_product_is_named_and_a_product_id_finds_its_first_view(world, opened):
    with pytest.raises(UserError, match="there is no product 'nothing'"):
        opened.product(" nothing ")
    assert opened.product(world.bank.table[2]["product_id"]).text == world.bank.table[2]["text"]


def test_questions_of_many_at_once_get_the_answers_of_one_alone(world, opened):
    rows = world.bank.table[:6]
    alone = [[hit.image_id for hit in opened.search(row["text"], None, {}, 4, 8).hits] for row in rows]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda row: [hit.image_id for hit in opened.search(row["text"], None, {}, 4, 8).hits], rows * 4))
    assert together == alone * 4


# --- What is uploaded


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def test_a_picture_is_read_scaled_down_and_its_file_deleted(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGBA", (2000, 500), (255, 0, 0, 255)))
    image = read_upload(path, 5)
    assert image.size == (studio.KEPT, 256) and image.mode == "RGB" and not path.exists()


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert read_upload(path, 5).getpixel((5, 5))[0] > 200


SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize("name, content, said", [
    ("text.jpg", b"not a picture at all", "cannot be decoded"),
    ("empty.png", b"", "0 bytes"),
    ("drawing.svg", SVG.encode(), "cannot be decoded"),
    ("large.jpg", b"\xff\xd8" + bytes(1_200_000), "1.2 MB"),
])
def test_what_is_no_picture_gets_one_message_and_is_deleted(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_upload(path, 1.0)
    assert said in str(error.value) and name in str(error.value) and str(tmp_path) not in str(error.value)
    assert not path.exists()


def test_a_picture_of_200_megapixels_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = save(tmp_path / "huge.png", Image.new("1", (20_000, 10_000)))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match="20000 x 10000 pixels"):
        read_upload(path, 100.0)
    assert not path.exists()


# --- The command


def test_without_gradio_it_says_how_to_install_it(monkeypatch, config):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package gradio.*\.\[demo\]"):
        demo.run(config)


def test_without_results_of_the_quickstart_it_says_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setattr(demo.loader, "packaged_start", lambda: tmp_path)
    with pytest.raises(UserError, match="run `kaleidobert quickstart` first"):
        demo.folder_of(DemoConfig())


# --- The page


@pytest.fixture(scope="module")
def address(opened, config, tmp_path_factory):
    pytest.importorskip("gradio", reason="no gradio: pip install -e '.[demo]'")
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch)
        for name, value in demo.GRADIO.items():
            patch.setenv(name, value)
        patch.setenv(demo.ROOM, str(tmp_path_factory.mktemp("room")))
        from kaleidobert.app_zoo.demo import page

        blocks = page.build(opened, config, "a title")
        yield page.launch(blocks, config)
        blocks.close(verbose=False)


@pytest.mark.parametrize("width, dark", [(1400, False), (390, True)])
def test_words_are_searched_and_a_product_is_opened(browser, address, world, width, dark):
    with browser.open(address, width=width, dark=dark) as opened:
        page = opened.page
        page.get_by_label("Words").fill(world.bank.table[0]["text"])
        page.get_by_role("button", name="Search").click()
        page.wait_for_selector(".hits table tr:nth-child(3)")
        assert page.locator(".hits table tr").count() == 6  # a head and five
        page.wait_for_selector(".products img")
        found = page.locator(".hits td:nth-child(2)").first.inner_text()
        page.locator(".products .grid-container button").first.click()
        page.wait_for_selector(".product iframe")
        assert page.frame_locator(".product iframe").locator("h1").inner_text() == found
        assert page.get_by_label("Id of a product").input_value() == found
        assert not opened.broken_images() and not opened.outside(address) and opened.overflow() <= 0
        assert not [error for error in opened.errors if "Method not implemented" not in error]  # gradio's own, at every start


def test_a_picture_is_uploaded_looked_at_and_not_kept(browser, address, world):
    path = world.bank.table[3]["image_path"]
    with browser.open(address) as opened:
        page = opened.page
        page.get_by_role("tab", name="Your picture").click()
        page.locator("input[type=file]:visible, input[type=file]").last.set_input_files(path)
        page.wait_for_selector(".preview img")
        page.get_by_role("button", name="What is it?").click()
        page.wait_for_selector(".products img")
        assert re.search(r"subcategory\n", page.locator(".hits:visible").first.inner_text())
    room = Path(os.environ[demo.ROOM])
    kept = [file for file in room.rglob("*") if file.is_file() and file.name == Path(path).name and file.stat().st_size]
    assert not kept


@pytest.mark.parametrize("name, content", [("text.jpg", b"no picture"), ("drawing.svg", SVG.encode()), ("empty.png", b"")])
def test_a_bad_upload_gets_one_message(browser, address, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with browser.open(address) as opened:
        page = opened.page
        page.locator("input[type=file]").first.set_input_files(str(tmp_path / name))
        page.wait_for_selector(".toast-body")
        assert page.locator(".toast-body").count() == 1 and name in page.locator(".toast-body").inner_text()


@pytest.mark.parametrize("number, host, warns", [(signal.SIGINT, "127.0.0.1", False), (signal.SIGTERM, "0.0.0.0", True)])
def test_the_command_serves_until_it_is_ended_and_leaves_nothing(opened, config, monkeypatch, tmp_path, capsys, number, host, warns):
    pytest.importorskip("gradio", reason="no gradio: pip install -e '.[demo]'")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(demo, "open_studio", lambda config: opened)
    monkeypatch.setattr(opened, "warm_up", lambda: None)
    seen = []

    def visit():
        deadline = time.monotonic() + 60
        while "Ctrl-C" not in "".join(seen) and time.monotonic() < deadline:
            time.sleep(0.05)
            seen.append(capsys.readouterr().out)
        address = re.search(r"http://\S+:\d+/", "".join(seen))
        assert address is not None
        try:
            with urllib.request.urlopen(address[0], timeout=20) as answer:
                seen.append(str(answer.status))
        finally:
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=visit)
    thread.start()
    demo.run(replace(config, host=host))
    thread.join()
    assert seen[-1] == "200" and ("everyone who reaches this machine" in "".join(seen)) == warns
    assert not list(tmp_path.glob("kaleidobert-demo-*"))


def test_pictures_in_the_pages_answers_are_jpeg(opened):
    content = studio.as_jpeg(Image.new("RGB", (8, 8)))
    assert Image.open(io.BytesIO(content)).format == "JPEG"
