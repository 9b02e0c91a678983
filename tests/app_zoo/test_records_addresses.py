"""``kaleidobert records`` of a table whose pictures are addresses: fetched once, left out with their reason, tried again."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kaleidobert.configs import Columns, RecordsConfig
from kaleidobert.configs.data import Download, Text
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sources.reading import survey
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.io import cache_root
from tests.support.apps_data import call

COLUMNS = Columns("id", "image", ("title",), more_images=("more",))
DOWNLOAD = Download(attempts=1, timeout=5.0, private=True)


@pytest.fixture
def shop(server, tmp_path, monkeypatch):
    """A table of 12 products with addresses, one of them of two pictures, one gone, one a page; returns its configuration."""
    monkeypatch.setenv("KALEIDO_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    lines = ["id,title,image,more"]
    for number in range(12):
        sink = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(sink, "PNG")
        server.add(f"media/{number}.png?v=1", sink.getvalue())
        lines.append(f"{number},red dress {number},{server.url}/media/{number}.png?v=1,")
    server.add("media/a%20b.png", sink.getvalue())
    server.add("media/page.png", b"<html>log in</html>")
    lines[1] += f"{server.url}/media/a b.png"
    lines += [f"20,gone,{server.url}/gone.png,", f"21,page,{server.url}/media/page.png,"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return RecordsConfig(tmp_path / "bank", TableSource(tmp_path / "t.csv", COLUMNS, download=DOWNLOAD), text=Text(vocabulary_size=200),
                         workers=1, max_skipped=0.2)


def skipped(config) -> list[dict]:
    return [json.loads(line) for line in (config.bank / "skipped.jsonl").read_text().splitlines()]


def test_a_dry_run_says_how_many_and_how_large_and_fetches_none(shop, server):
    done = call("records", shop, "--dry-run")
    assert done.status == 0 and "pictures at addresses: 15 to fetch (127.0.0.1:" in done.out and " MB, by 14 of them" in done.out
    assert "gone.png: there is no such file (HTTP 404)" in done.out and not cache_root().exists() and not shop.bank.exists()


def test_pictures_become_a_bank_and_are_fetched_once(shop, server):
    done = call("records", shop)
    assert done.status == 0 and "13 of 15 pictures at addresses are in" in done.out and "tries the other 2 again" in done.out
    bank = Bank(shop.bank)
    assert [row["image_id"] for row in bank.table][:3] == ["0", "0/2", "1"] and len(bank.table) == 13
    assert {row["image_id"]: row["reason"].partition(": ")[2].split(": ")[-1] for row in skipped(shop)} == {
        "20": "there is no such file (HTTP 404)", "21": "the server sent a web page, no picture"}
    asked = len(server.requests)
    assert call("records", shop).status == 0
    assert sorted(path for path, _ in server.requests[asked:]) == ["/gone.png", "/media/page.png"]
    product = survey(shop.source).products[0]
    assert product.image_path == f"{server.url}/media/0.png?v=1" and read_image(product.image_path).shape == (40, 40, 3)


def test_reasons_are_counted_together_and_show_no_query(shop, server):
    """A query may sign the address."""
    lines = "".join(f"g{number},gone {number},{server.url}/gone{number}.png?sig=HIDDEN,\n" for number in range(3))
    with open(shop.source.table, "a") as file:
        file.write(lines)
    done = call("records", replace(shop, max_skipped=1.0))
    assert done.status == 0 and "there is no such file x 4: " in done.out, done.out + done.err
    assert "HIDDEN" not in done.out + done.err + (shop.bank / "skipped.jsonl").read_text()


def test_a_cache_that_cannot_be_written_is_one_message(shop, server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KALEIDO_CACHE", str(tmp_path / "file"))
    done = call("records", shop)
    assert done.status == 2 and "cannot write here" in done.err and "Traceback" not in done.err


def test_what_comes_later_is_taken_in(shop, server):
    assert call("records", shop).status == 0
    server.files["/gone.png"] = server.files["/media/3.png?v=1"]
    done = call("records", shop)
    assert done.status == 0 and len(Bank(shop.bank).table) == 14 and [row["image_id"] for row in skipped(shop)] == ["21"]


def test_own_network_is_refused_without_the_key(shop, server):
    done = call("records", RecordsConfig(shop.bank, TableSource(shop.source.table, COLUMNS), text=shop.text, workers=1))
    assert done.status == 2 and "own network, which source.download.private=true allows" in done.err and not server.requests
