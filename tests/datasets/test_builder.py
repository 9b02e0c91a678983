"""Making a bank from what people have: odd pictures, wrong settings, full disks; interrupted at any moment, it continues."""

import builtins
import json
import re
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sources import reading
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import encoders, features, foreground
from tests.support.apps_data import World, call, edit, refused
from tests.support.dying import die
from tests.support.tables import TWO
from tests.support.tiny import tiny_catalogue

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh(tmp_path) -> World:
    """A catalogue and no bank."""
    tiny_catalogue(tmp_path / "catalogue", 16)
    return World(tmp_path, TWO)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a bank; without the part of its index that says how it was made: folder, number of processes."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    index = json.loads(found["index.json"])
    index.pop("config", None)
    return found | {"index.json": json.dumps(index).encode()}


def huge_png(width: int, height: int) -> bytes:
    """The beginning of a picture that no memory holds."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
                                         for name, data in chunks)


# --- pictures and texts -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_odd_pictures_are_read_and_broken_ones_left_out_with_the_reason(fresh):
    folder = fresh.folder / "catalogue"
    products, _ = reading.read(fresh.source)
    paths, names = [Path(product.image_path) for product in products], [product.image_id for product in products]
    whole = Image.open(paths[0]).convert("RGB")
    whole.convert("CMYK").save(folder / "cmyk.jpg")
    whole.convert("L").save(folder / "grey.png")
    Image.fromarray(np.asarray(whole.convert("L"), np.uint16) * 257).save(folder / "deep.png")
    whole.convert("P").save(folder / "palette.gif")
    good = dict(zip(range(4), ("cmyk.jpg", "grey.png", "deep.png", "palette.gif")))
    data = paths[4].read_bytes()
    broken = {4: (data[: len(data) // 2], "cannot be decoded"), 5: (b"", r"empty \(0 bytes\)"),
              6: (b"GIF89a, or so", "cannot be decoded"), 7: (None, "no such picture"),
              8: (huge_png(10_001, 10_000), "10001 x 10000 pixels.*at most 100,000,000"),
              9: (huge_png(40_000, 40_000), "far too many pixels|40000 x 40000")}
    Image.new("RGB", (1, 1)).save(paths[10])
    edit(fresh.source, lambda rows: [rows[number].update(image=name) for number, name in good.items()])
    for number, (bytes_, _) in broken.items():
        paths[number].unlink() if bytes_ is None else paths[number].write_bytes(bytes_)
    done = call("records", fresh.records())
    made = fresh.folder / "made"
    assert done.status == 3 and "7 left out" in done.out and str(made / "skipped.jsonl") in done.out
    assert Bank(made).column("image_id").tolist() == names[:4] + names[11:]
    left = [json.loads(line) for line in (made / "skipped.jsonl").read_text().splitlines()]
    assert [row["image_id"] for row in left] == names[4:11]
    for row, path, words in zip(left, paths[4:11], [*(words for _, words in broken.values()), "1 x 1 pixels.*at least 2 x 2"]):
        assert re.search(words, row["reason"]) and row["where"] == str(path)


def test_no_usable_picture_is_a_failure_that_can_be_mended(fresh):
    shutil.move(fresh.folder / "catalogue", fresh.folder / "elsewhere")
    (fresh.folder / "catalogue").mkdir()
    shutil.copy(fresh.folder / "elsewhere/table.jsonl", fresh.folder / "catalogue")
    edit(fresh.source, lambda rows: rows.append(rows[0]))  # a row left out for another reason
    refused(call("records", fresh.records()), r"none of 22 pictures.*\(the first: .*p00-front.png: there is no such picture",
            "skipped.jsonl", "to fix: correct the files or source.images and run the same command again")
    source = replace(fresh.source, images=fresh.folder / "elsewhere")
    assert call("records", fresh.records(source=source)).status == 0 and Bank(fresh.folder / "made").size == 22


def test_double_ids_and_empty_texts_are_left_out(fresh):
    edit(fresh.source, lambda rows: (rows[3].update(text="  "), rows.append(rows[5])))
    done = call("records", fresh.records())
    left = [json.loads(line) for line in (fresh.folder / "made/skipped.jsonl").read_text().splitlines()]
    assert done.status == 0 and "2 left out" in done.out
    assert [row["where"] for row in left] == ["table.jsonl, line 4", "table.jsonl, line 23"]
    assert "no text in 'text'" in left[0]["reason"] and "used before, in table.jsonl, line 6" in left[1]["reason"]


def test_an_encoder_that_returns_nan(fresh, monkeypatch):
    build, names = encoders.build, [product.image_id for product in reading.read(fresh.source)[0]]
    Path(fresh.folder / "catalogue/p03-front.png").write_bytes(b"")
    sick = {views(fresh.folder / "catalogue" / f"{name.replace('/', '-')}.png")[1].tobytes() for name in names[::9]}

    def broken(config):
        encoder = build(config)

        def encode(patches):
            features = encoder.encode(patches)
            features[[patch.tobytes() in sick for patch in patches], 5] = np.nan
            return features

        return replace(encoder, encode=encode)

    monkeypatch.setattr(encoders, "build", broken)
    monkeypatch.setattr(builder, "_ENCODERS", {})
    done = call("records", fresh.records())
    left = [json.loads(line) for line in (fresh.folder / "made/skipped.jsonl").read_text().splitlines()]
    lost = [name for number, name in enumerate(names) if number % 9 == 0 or name == "p03/front"]
    assert done.status == 3 and [row["image_id"] for row in left] == lost == ["p00/front", "p03/front", "p06/back", "p13/front"]
    assert all(("is empty" if row["image_id"] == "p03/front" else "NaN or infinite feature") in row["reason"] for row in left)
    bank = Bank(fresh.folder / "made")
    assert bank.size == 18 and np.isfinite(np.load(bank.folder / "features-00000.npy")).all()
    assert bank.column("image_id").tolist() == [name for name in names if name not in lost]


def views(path: Path) -> list[np.ndarray]:
    image = read_image(path)
    return features.cut(image, foreground.find(image, foreground.border_mask), TWO, 4).views


def test_a_picture_of_several_rows_is_encoded_once(fresh, monkeypatch):
    build, count = encoders.build, []

    def counting(config):
        encoder = build(config)
        return replace(encoder, batch=5, encode=lambda patches: count.append(len(patches)) or encoder.encode(patches))

    monkeypatch.setattr(encoders, "build", counting)
    monkeypatch.setattr(builder, "_ENCODERS", {})
    assert call("records", fresh.records("once")).status == 0
    once = sum(count)
    edit(fresh.source, lambda rows: rows.extend({**row, "id": row["id"] + "-again", "text": "another text"} for row in list(rows)))
    count.clear()
    assert call("records", fresh.records("twice")).status == 0
    one, two = (np.load(fresh.folder / name / "features-00000.npy") for name in ("once", "twice"))
    assert sum(count) == once and two.shape[0] == 2 * one.shape[0]
    assert (two[: len(one)] == one).all() and (two[len(one) :] == one).all()


@pytest.mark.parametrize("changes, words", [
    ({"encoder": configs.Encoder("resnet50", 64, Path("/nowhere/a.h5"))}, "/nowhere/a.h5: there is no such weights file"),
    ({"encoder": configs.Encoder("pixels", 0)}, "encoder.size is 0"),
    ({"encoder": configs.Encoder("mobilenet_v2", 8)}, "at least 32 pixels"),
    ({"encoder": configs.Encoder("pixels", 4, batch_size=0)}, "encoder.batch_size is 0"),
    ({"encoder": configs.Encoder("pixels", 4, folded=True)}, "encoder.folded is True.*pixels|pixels: .*encoder.folded is True"),
    ({"encoder": configs.Encoder("pixels", 4, precision="mixed_bfloat16")}, "encoder.precision is mixed_bfloat16"),
    ({"encoder": configs.Encoder("pixels", 40, small_size=36)}, "encoder.small_size is 36.*expected: 0,"),
    ({"encoder": configs.Encoder("mobilenet_v2", 64, small_size=31)}, "encoder.small_size is 31.*32 pixels to less than"),
    ({"encoder": configs.Encoder("mobilenet_v2", 64, small_size=64)}, "encoder.small_size is 64.*32 pixels to less than"),
    ({"threads": -1}, "threads is -1.*at least 0"),
    ({"shard_size": 0}, "shard_size is 0"),
    ({"text": configs.Text(length=2)}, "text.length is 2.*at least 3"),
    ({"text": configs.Text(vocabulary=Path("/nowhere/vocab.txt"))}, "/nowhere/vocab.txt: there is no such vocabulary"),
    ({"text": configs.Text("sentencepiece")}, "text.vocabulary is empty"),
])
def test_settings_are_refused_before_anything_is_encoded(fresh, changes, words):
    for flags in ([], ["--dry-run"]):
        refused(call("records", fresh.records(**changes), *flags), words)
    assert not (fresh.folder / "made/shards").exists()


def test_a_catalogue_without_a_training_split(fresh):
    edit(fresh.source, lambda rows: [row.update(split="teaching") for row in rows])
    for flags in ([], ["--dry-run"]):
        refused(call("records", fresh.records(), *flags), "no picture is in the split 'train'.*'teaching'.*split column")
    assert not (fresh.folder / "made").exists()


def test_folders_that_hold_something_else(fresh):
    (fresh.folder / "made").write_text("mine")
    refused(call("records", fresh.records()), "this is a file")
    (fresh.folder / "made").unlink()
    (fresh.folder / "made").mkdir()
    (fresh.folder / "made/photo.jpg").write_text("mine")
    refused(call("records", fresh.records()), "not empty and holds no bank.*bank=")
    (fresh.folder / "made/photo.jpg").rename(fresh.folder / "made/.work.json.77.tmp")  # as a kill in the first write leaves it
    assert call("records", fresh.records()).status == 0
    before = content(fresh.folder / "made")
    for changes in ({"encoder": configs.Encoder("pixels", 5)}, {"shard_size": 5}, {"levels": TWO[:1]},
                    {"foreground": configs.Foreground("none")}, {"source": replace(fresh.source, limit=5)}):
        for flags in ([], ["--dry-run"]):
            refused(call("records", fresh.records(**changes), *flags), "holds another bank.*choose another folder with bank=")
    assert content(fresh.folder / "made") == before and not any("tmp" in name for name in before)


# --- interruptions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(fresh) -> dict[str, bytes]:
    """The files of a bank of four shards that nothing disturbed."""
    assert call("records", fresh.records("whole", shard_size=6)).status == 0
    return content(fresh.folder / "whole")


def shards(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*0000*")}


def test_a_bank_is_not_continued_by_a_pillow_that_resizes_otherwise(fresh, monkeypatch):
    assert call("records", fresh.records(shard_size=6)).status == 0
    monkeypatch.setattr(builder.PIL, "__version__", "99.0.0")
    refused(call("records", fresh.records(shard_size=6)), "another Pillow than 99.0.0, which resizes otherwise.*delete this one")


def test_an_interrupted_bank_is_continued_byte_for_byte(fresh, whole, monkeypatch):
    make, done_shards = builder.build_shard, []

    def interrupted(*arguments):
        if len(done_shards) == 2:
            raise KeyboardInterrupt
        done_shards.append(1)
        return make(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(builder, "build_shard", interrupted)
        done = call("records", fresh.records(shard_size=6))
    assert done.status == 130 and "the same command continues where it stopped" in done.err
    (fresh.folder / "made/.features-00002.npy.77.tmp").write_bytes(b"half")
    (fresh.folder / "made/shards/.00002.json.77.tmp").write_bytes(b"half")
    early = fresh.pretrain(data=configs.Data(fresh.folder / "made"))
    refused(call("pretrain", early), "no finished bank.*it continues where it stopped")
    before = shards(fresh.folder / "made")
    kept = {name: before[name] for name in ("features-00000.npy", "00000.json", "features-00001.npy", "00001.json")}
    assert call("records", fresh.records(shard_size=6)).status == 0
    assert kept.items() <= shards(fresh.folder / "made").items()
    assert content(fresh.folder / "made") == whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("file", ["features-00002.npy", "00001.json", "token_ids.npy", "index.json"])
def test_a_full_disk_while_a_bank_is_made(fresh, whole, monkeypatch, file):
    real = builtins.open

    def full(path, *arguments, **named):
        return real("/dev/full" if Path(str(path)).name.startswith(f".{file}.") else path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", full)
        refused(call("records", fresh.records(shard_size=6)), f"{file}: no space left on the disk; to fix: free some space")
    assert not list((fresh.folder / "made").rglob("*.tmp")) and not (fresh.folder / "made/index.json").exists()
    before = shards(fresh.folder / "made")
    assert before.keys() >= {"features-00000.npy", "00000.json"}
    assert call("records", fresh.records(shard_size=6)).status == 0
    assert {name: before[name] for name in ("features-00000.npy", "00000.json")}.items() <= shards(fresh.folder / "made").items()
    assert content(fresh.folder / "made") == whole


def test_several_processes_make_the_same_bank(fresh, whole):
    assert call("records", fresh.records(shard_size=6, workers=2)).status == 0
    assert content(fresh.folder / "made") == whole


def test_a_worker_that_dies_is_explained(fresh):
    config = fresh.records(shard_size=6, workers=2)
    products, _ = reading.read(fresh.source)
    with pytest.raises(UserError, match="a worker process died.*finished shards are kept.*fewer workers"):
        list(builder.build_shards(config, products, die))
