"""``kaleidobert inspect`` on a bank with an alignment: what its pages say is what the bank and the maps hold."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo.inspect import content, inspect, pictures
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from tests.support.inspect_data import World
from tests.support.tables import TABLES, TWO

pytestmark = [pytest.mark.slow, pytest.mark.eager]

GRID = 6


def align(world, folder, seed=0):
    """Link every second word of the bank to the first and last patch of every masked level; write maps with one hot cell."""
    bank, rng = world.bank, np.random.default_rng(seed)
    strengths = np.zeros((bank.size, bank.text_length, kaleido.num_patches(world.levels)), np.float16)
    words = bank.token_words
    for level, part in zip(world.levels, kaleido.patch_slices(world.levels).values()):
        if level.num_masked:
            strengths[..., [part.start, part.stop - 1]] = np.where((words >= 0) & (words % 2 == 0), 0.4, 0)[..., None]
    alignments.write(bank, [strengths], ({"caption": f"<i>caption</i> of {row}"} for row in range(bank.size)), mode="test",
                     settings={"regions": {"threshold": 0.5}})
    most = int(words.max()) + 1
    maps, has_map = np.zeros((bank.size, most, GRID, GRID), np.float16), np.zeros((bank.size, most), bool)
    maps[np.arange(bank.size)[:, None], np.arange(most), rng.integers(GRID, size=(bank.size, most)), 2] = 1
    has_map[:, ::2] = True
    folder.mkdir()
    np.save(folder / "maps.npy", maps)
    lines = [{"image_id": row["image_id"], "words": [], "has_map": has.tolist()} for row, has in zip(bank.table, has_map)]
    (folder / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module", params=TABLES)
def world(request, tmp_path_factory):
    world = World(tmp_path_factory.mktemp(request.param), TABLES[request.param])
    world.maps = align(world, tmp_path_factory.mktemp("maps") / "generated")
    return world


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("two"), TWO)
    world.maps = align(world, tmp_path_factory.mktemp("maps") / "generated")
    return world


def test_pages_show_caption_maps_links_and_plans(world, tmp_path):
    inspect.run(world.config(tmp_path / "run", count=1, maps=world.maps))
    html = next((tmp_path / "run").glob("01*.html")).read_text()
    assert "&lt;i&gt;caption&lt;/i&gt; of " in html and "<i>caption" not in html
    for words in ("Alignment Guided Masking", "random masking", "Where each word is seen"):
        assert words in html
    index, results = (tmp_path / "run/index.html").read_text(), json.loads((tmp_path / "run/results.json").read_text())
    assert "Alignment of the bank" in index and (tmp_path / "run/alignment.png").is_file()
    words = world.bank.token_words
    assert results["alignment"]["aligned_tokens_share"] == pytest.approx((words[words >= 0] % 2 == 0).mean())
    bare = tmp_path / "bare"
    inspect.run(world.config(bare, count=1))
    without = next(bare.glob("01*.html")).read_text()
    assert "Where each word is seen" not in without
    assert html.count("<img") > without.count("<img")


def test_what_is_shown_is_what_the_bank_holds(world):
    aligned = content.BankAlignment(world.bank, world.maps)
    masked = [level for level in world.levels if level.num_masked]
    both = 0
    for row in range(0, world.bank.size, 3):
        shown = content.build_alignment(aligned, world.levels, row, world.photo(row), configs.Sampling(camouflage="guided"), seed=1)
        words = aligned.words(row)
        assert [item.caption for item in shown.maps] == [word.text for word in words[::2]][:content.MAX_MAPS]
        assert shown.note == f"{len(words[::2])} of {len(words)} words are linked to patches, in mode test."
        assert [item.caption for item in shown.links] == [f"{level.name}: {level.grid} × {level.grid}" for level in masked]
        assert [plan.title for plan in shown.plans] == ["Alignment Guided Masking", "random masking"]
        for plan in shown.plans:
            hidden = [token for token in plan.tokens if token.state == "masked"]
            numbers = [int(number) for number in re.findall(r"\d+", plan.note)]
            assert numbers[1] == len(hidden) and numbers[3] == sum(level.num_masked for level in masked)
            ours = [world.bank.token_words[row, token.position - 1] % 2 == 0 for token in hidden]
            assert numbers[0] == sum(ours) and len(plan.figures) == len(masked)
        both += int(re.search(r"both sides: (\d+)", shown.plans[0].note)[1])
    assert both == 0 or world.levels is not KALEIDO
    again = content.build_alignment(aligned, world.levels, 0, world.photo(0), configs.Sampling(), seed=1)
    twice = content.build_alignment(aligned, world.levels, 0, world.photo(0), configs.Sampling(), 1)
    assert again.plans[0].tokens == twice.plans[0].tokens


def test_a_heat_map_is_hot_where_the_map_is_and_outlined_at_the_region():
    image = np.full((60, 40, 3), 120, np.uint8)
    attention = np.zeros((GRID, GRID))
    attention[1, 4] = 1
    pixels = np.asarray(pictures.heat_map(image, (0, 0, 40, 60), attention, 0.5, 180)).astype(int)
    assert pixels.shape == (180, 120, 3)
    warmth = pixels[..., 0] - pixels[..., 2]
    row, column = np.unravel_index(warmth.argmax(), warmth.shape)
    assert abs(row / 180 - 1.5 / GRID) < 0.06 and abs(column / 120 - 4.5 / GRID) < 0.06
    dark = (pixels == (29, 37, 48)).all(-1)
    rows, columns = np.nonzero(dark)
    assert 20 < rows.min() and rows.max() < 75 and columns.min() > 60 and warmth[150, 20] < 40


def test_lines_lead_to_the_linked_patches():
    image = np.full((90, 90, 3), 255, np.uint8)
    strengths = np.zeros(9)
    strengths[5] = 0.5  # second row, third column
    picture = pictures.link_lines(image, (0, 0, 90, 90), 3, [pictures.WordLinks("word", 1, strengths)], 300)
    pixels = np.asarray(picture)
    orange = (pixels == (213, 94, 0)).all(-1)
    left = picture.width - 300
    in_patches = orange[:, left:].reshape(3, 100, 3, 100).sum((1, 3))
    assert in_patches[1].argmax() == 2 and in_patches[0].sum() == 0 and in_patches[2].sum() == 0
    assert orange[150, left + 250] and orange[:, :left].any()
    assert pictures.link_lines(image, (0, 0, 90, 90), 3, []).size[1] == 330


def test_maps_that_do_not_fit_are_refused(two, tmp_path):
    config = two.config(tmp_path / "run", count=1)
    with pytest.raises(UserError, match="no maps.*maps.npy"):
        inspect.run(replace(config, maps=tmp_path / "nowhere"))
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "maps.npy", np.load(two.maps / "maps.npy")[:3])
    lines = (two.maps / "words.jsonl").read_text().splitlines()
    (other / "words.jsonl").write_text("\n".join(lines[:3]))
    for command in (inspect.run, inspect.dry_run):
        with pytest.raises(UserError, match="belong to 3 other pictures.*kaleidobert align"):
            command(replace(config, maps=other))
    (other / "maps.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        inspect.run(replace(config, maps=other))
    bare = World(tmp_path / "bare", TWO)
    with pytest.raises(UserError, match="holds no alignment.*kaleidobert align"):
        inspect.run(bare.config(tmp_path / "run", count=1, maps=two.maps))
    assert not (tmp_path / "run").exists()
