"""The feature bank: what is read back is what was encoded, and a file that changed is noticed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert import levels as kaleido
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sources import reading as catalogue
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import encoders, features, foreground
from kaleidobert.preprocessors import patch_generator as patches
from tests.support.tables import TABLES, TWO
from tests.support.tiny import COLUMNS, tiny_catalogue


def build(folder: Path, source: configs.Source, levels=TWO, shard_size: int = 7, **changes) -> Bank:
    options = {"encoder": configs.Encoder("pixels", 4, batch_size=3), "text": configs.Text(length=12), "workers": 1,
               "foreground": configs.Foreground("border")} | changes
    config = configs.RecordsConfig(folder, source, levels=levels, shard_size=shard_size, **options)
    products, skipped = catalogue.read(source)
    mark = builder.claim(config, products)
    assert sum(builder.build_shards(config, products, encoders.build)) == len(products)
    builder.finish(config, products, skipped, mark)
    return Bank(folder)


def edit(source: configs.Source, number: int, **values) -> None:
    """Change columns of one row of the catalogue."""
    rows = [json.loads(line) for line in source.table.read_text().splitlines()]
    rows[number].update(values)
    source.table.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def source(tmp_path) -> configs.Source:
    return tiny_catalogue(tmp_path / "catalogue", 16)


@pytest.mark.parametrize("shard_size, shards", [(7, 4), (100, 1)])
@pytest.mark.parametrize("table", TABLES)
def test_gather_reads_what_was_encoded(tmp_path, source, table, shard_size, shards):
    levels = TABLES[table]
    bank = build(tmp_path / "bank", source, levels, shard_size)
    assert bank.size == 22 and bank.index["shards"] == [f"features-{number:05d}.npy" for number in range(shards)]
    stored = np.concatenate([np.load(tmp_path / "bank" / name) for name in bank.index["shards"]])
    assert stored.shape == (22, kaleido.num_vectors(levels), 48) and stored.dtype == np.float16
    rng = np.random.default_rng(0)
    rows, vectors = rng.integers(22, size=(9, 5)), rng.integers(stored.shape[1], size=(9, 5))
    np.testing.assert_array_equal(bank.features(rows[:, 0], vectors), stored[rows[:, :1], vectors])
    edge = np.array([0, 6, 7, 13, 14, 21, 21])  # both sides of every seam, one twice
    np.testing.assert_array_equal(bank.features(edge, 0 * edge[:, None] + stored.shape[1] - 1)[:, 0], stored[edge, -1])
    for row in (0, 7, 21):  # and what is stored are the patches of that row's own picture
        entry = bank.table[row]
        image = read_image(entry["image_path"])
        cut = features.cut(image, foreground.find(image, foreground.border_mask), levels, 4)
        np.testing.assert_array_equal(stored[row], (np.stack(cut.views).reshape(len(cut.views), -1) / np.float32(255)).astype(np.float16))
        np.testing.assert_array_equal(bank.boxes[row], cut.boxes)


def test_rows_follow_the_catalogue_and_skip_what_was_left_out(tmp_path, source):
    products, _ = catalogue.read(source)
    lost = {3, 9, *range(14, 21)}  # one in the first shard, one in the second, the whole third
    for number in lost:
        Path(products[number].image_path).unlink()
    bank = build(tmp_path / "bank", source)
    ids = [product.image_id for number, product in enumerate(products) if number not in lost]
    assert bank.column("image_id").tolist() == ids and bank.size == 13
    assert bank.index["shards"] == ["features-00000.npy", "features-00001.npy", "features-00003.npy"]
    whole = build(tmp_path / "whole", tiny_catalogue(tmp_path / "again", 16))
    places = np.flatnonzero(np.isin(whole.column("image_id"), ids))
    everything = np.tile(np.arange(kaleido.num_vectors(TWO)), (13, 1))
    np.testing.assert_array_equal(bank.features(np.arange(13), everything), whole.features(places, everything))
    np.testing.assert_array_equal(bank.boxes, whole.boxes[places])
    left = [json.loads(line) for line in (tmp_path / "bank/skipped.jsonl").read_text().splitlines()]
    assert [row["image_id"] for row in left] == [products[number].image_id for number in sorted(lost)]
    assert all("no such picture" in row["reason"] and row["where"] in row["reason"] for row in left)
    assert bank.index["skipped"] == len(lost) == 9


def test_text_labels_and_splits(tmp_path, source):
    bank = build(tmp_path / "bank", source)
    products, _ = catalogue.read(source)
    assert bank.column("text").tolist() == [product.text for product in products]
    assert bank.column("colour").tolist() == [product.labels["colour"] for product in products]
    ids, words = bank.tokenizer().encode([product.text for product in products], 12)
    np.testing.assert_array_equal(bank.token_ids, ids)
    np.testing.assert_array_equal(bank.token_words, words)
    splits = bank.column("split")
    assert all((splits[bank.rows(name)] == name).all() for name in ("train", "val"))
    assert len(bank.rows("train")) + len(bank.rows("val")) == bank.size
    with pytest.raises(UserError, match=r"split 'test' is empty.*\['train', 'val'\].*data.train_split"):
        bank.rows("test")
    with pytest.raises(UserError, match=r"no label 'size'.*'colour'.*source.columns.labels"):
        bank.column("size")
    assert describe(bank)["splits"] == {name: len(bank.rows(name)) for name in ("train", "val")}
    # the vocabulary is the training split's: a word that only the validation split knows is spelt or unknown
    edit(source, 2, text="red zyzzyva", split="val")
    other = build(tmp_path / "other", source)
    assert "zyzzyva" not in other.tokenizer().pieces(range(other.vocabulary.size))


def test_without_a_split_column_groups_are_split_by_a_hash(tmp_path, source):
    bank = build(tmp_path / "bank", replace(source, columns=replace(COLUMNS, split="", group="id"), val_fraction=0.4))
    assert {row["split"] for row in bank.table} == {"train", "val"}
    for row in bank.table:
        assert row["split"] == catalogue.split_of(row["product_id"], 0.4)


def test_foreground_by_masks(tmp_path, source):
    edit(source, 2, mask="")
    edit(source, 7, mask="small.png")
    Image.new("L", (10, 10), 255).save(tmp_path / "catalogue/small.png")
    (tmp_path / "catalogue/p02-front-mask.png").write_bytes((tmp_path / "catalogue/p04-front-mask.png").read_bytes()[:60])
    bank = build(tmp_path / "bank", source, foreground=configs.Foreground("masks", margin=0.0))
    for row in bank.table:
        mask = catalogue.read_mask(Path(row["image_path"].replace(".png", "-mask.png")))
        assert tuple(row["box"]) == foreground.bounding_box(mask) and row["fallback"] == ""
        x1, y1, x2, y2 = row["box"]
        whole = bank.boxes[bank.column("image_id").tolist().index(row["image_id"]), 0]  # level 1 is the box itself
        np.testing.assert_allclose(whole[:4], [x1 / 40, x2 / 40, y1 / 52, y2 / 52], atol=1e-6)
    left = [json.loads(line) for line in (tmp_path / "bank/skipped.jsonl").read_text().splitlines()]
    assert [row["image_id"] for row in left] == ["p01/front", "p02/front", "p05/front"]
    for row, words in zip(left, ("no mask is given", "p02-front-mask.png: the picture cannot be decoded", "the mask is 10 x 10")):
        assert words in row["reason"]
    plain = build(tmp_path / "plain", source, foreground=configs.Foreground("none"))
    assert all(row["box"] == [0, 0, 40, 52] for row in plain.table)


def test_missing_and_truncated_files_are_named(tmp_path, source):
    bank = build(tmp_path / "bank", source)
    assert {"features-00003.npy", "boxes.npy", "token_ids.npy", "table.jsonl", "vocab.txt"} <= bank.index["files"].keys()
    for name in bank.index["files"]:
        path = tmp_path / "bank" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] if content else b"x")
        with pytest.raises(UserError, match=rf"{name}: has .* bytes; expected: {len(content):,} bytes; to fix: delete"):
            Bank(tmp_path / "bank")
        path.unlink()
        with pytest.raises(UserError, match=f"{name}: is missing"):
            Bank(tmp_path / "bank")
        path.write_bytes(content)
    Bank(tmp_path / "bank").verify()


def test_verify_notices_a_flipped_bit(tmp_path, source):
    bank = build(tmp_path / "bank", source)
    bank.verify()
    for name in ("features-00001.npy", "table.jsonl"):
        path = tmp_path / "bank" / name
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: the content does not fit the checksum.*kaleidobert records"):
            bank.verify()
        content[-9] ^= 1
        path.write_bytes(content)
    bank.verify()


def test_unfinished_and_foreign_folders(tmp_path, source):
    with pytest.raises(UserError, match="no finished bank.*kaleidobert records"):
        Bank(tmp_path / "none")
    build(tmp_path / "bank", source)
    index = tmp_path / "bank/index.json"
    text = index.read_text()
    index.write_text(text.replace('"format": 2', '"format": 0'))
    with pytest.raises(UserError, match="format 0; expected: format 2"):
        Bank(tmp_path / "bank")
    index.write_text(text[:-20])
    with pytest.raises(UserError, match="index.json: not valid JSON"):
        Bank(tmp_path / "bank")
    index.unlink()
    with pytest.raises(UserError, match="no finished bank"):
        Bank(tmp_path / "bank")


def test_require_and_identity(tmp_path, source):
    bank = build(tmp_path / "bank", source)
    bank.require(TWO, "")
    bank.require((TWO[0], replace(TWO[1], num_masked=3, weight=2.0)), "pixels-4")  # what a bank does not depend on
    mine = "made with levels whole 1x1 rotate, quarters 2x2 blank; expected: .*make a bank with these"
    for other in ((TWO[1], TWO[0]), (*TWO, KaleidoLevel("more", 3, "none")), (TWO[0], replace(TWO[1], grid=3)),
                  (TWO[0], replace(TWO[1], name="other")), (TWO[0], KaleidoLevel("quarters", 2, "grey", num_masked=1))):
        with pytest.raises(UserError, match=mine):
            bank.require(other, "")
    with pytest.raises(UserError, match="made with the encoder 'pixels-4'; expected: 'pixels-8'"):
        bank.require(TWO, "pixels-8")
    same = build(tmp_path / "same", source, shard_size=100)
    texts = build(tmp_path / "texts", source, text=configs.Text(vocabulary_size=40))
    assert bank.identity == same.identity and bank.identity["encoder"] == "pixels-4"
    assert texts.identity["vocabulary_sha256"] != bank.identity["vocabulary_sha256"]


FEWER = {"one": lambda levels: levels[-1:], "bare": lambda levels: tuple(KaleidoLevel(one.name, one.grid, "none") for one in levels),
         "two bare ones": lambda levels: tuple(KaleidoLevel(one.name, one.grid, "none") for one in levels[::3]),
         "a bare one before others": lambda levels: (KaleidoLevel(levels[0].name, levels[0].grid, "none"), *levels[1:])}


@pytest.mark.parametrize("fewer", FEWER.values(), ids=FEWER)
@pytest.mark.parametrize("table", ["kaleido", "six"])
def test_a_bank_shows_some_of_its_levels_with_their_pretext_or_none(tmp_path, source, table, fewer):
    whole, levels = build(tmp_path / "bank", source, TABLES[table]), fewer(TABLES[table])
    bank, rows = whole.require(levels, ""), np.array([3, 0, 21])
    assert bank.levels == levels and bank.made_with == whole.levels == TABLES[table] and whole.require(TABLES[table], "") is whole
    patches, vectors = kaleido.patch_slices(whole.levels), kaleido.vector_slices(whole.levels)
    every = np.broadcast_to(np.arange(kaleido.num_vectors(whole.levels)), (3, kaleido.num_vectors(whole.levels)))
    mine = np.broadcast_to(np.arange(kaleido.num_vectors(levels)), (3, kaleido.num_vectors(levels)))
    stored, shown = whole.features(rows, every), bank.features(rows, mine)
    for level in levels:
        count = level.num_patches * level.num_views
        np.testing.assert_array_equal(shown[:, kaleido.vector_slices(levels)[level.name]], stored[:, vectors[level.name]][:, :count])
        np.testing.assert_array_equal(bank.boxes[:, kaleido.patch_slices(levels)[level.name]], whole.boxes[:, patches[level.name]])
    assert describe(bank)["patches"] == bank.boxes.shape[1] == kaleido.num_patches(levels)
    for wrong in (-1, kaleido.num_vectors(levels)):
        with pytest.raises(IndexError):
            bank.gather(rows, {"features": np.full((3, 1), wrong)})
    again = bank.require(levels[-1:], "pixels-4")  # of one that shows some already
    np.testing.assert_array_equal(again.boxes, whole.boxes[:, patches[levels[-1].name]])


def test_patches_that_get_turned_are_cut_square_where_asked(tmp_path, source):
    squashed = build(tmp_path / "bank", source)
    bank = build(tmp_path / "square", source, encoder=configs.Encoder("pixels", 4, batch_size=3, turned="square"))
    assert bank.encoder == "pixels-4-square" != squashed.encoder and bank.square == {"whole"} and not squashed.square
    assert bank.index["encoder"]["turned"] == "square" and bank.index["fingerprint"] != squashed.index["fingerprint"]
    every = np.broadcast_to(np.arange(8), (bank.size, 8))
    one, other = (found.features(np.arange(bank.size), every) for found in (bank, squashed))
    np.testing.assert_array_equal(one[:, 4:], other[:, 4:])  # other levels, and the boxes of all, are the same
    np.testing.assert_array_equal(bank.boxes, squashed.boxes)
    for row in (0, 9, 21):
        entry = bank.table[row]
        patch = patches.surroundings(read_image(entry["image_path"]), entry["box"])
        whole = np.asarray(Image.fromarray(patch).resize((4, 4), Image.Resampling.BILINEAR)) / 255
        for turn in range(4):
            np.testing.assert_allclose(one[row, turn], np.rot90(whole, turn).ravel(), atol=1e-3)
        assert (one[row, :4] != other[row, :4]).any()
    index = json.loads((bank.folder / "index.json").read_text())
    index["encoder"].pop("turned")  # as made before there was a choice
    (bank.folder / "index.json").write_text(json.dumps(index))
    assert not Bank(bank.folder).square
