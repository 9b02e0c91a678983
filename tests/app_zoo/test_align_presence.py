"""kaleidobert align mode=word_presence: links without a captioner, its results and controls, resuming, beside the other modes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.app_zoo import tables as results_tables
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.evaluators.alignment import CONTROLS, LOOK, METHODS
from tests.support import tables
from tests.support.apps_data import World, call, refused, results
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.plotted, pytest.mark.eager]
PRESENCE = configs.WordPresence(epochs=3, batch_size=10, learning_rate=1e-2, warmup_share=0.0, clip_norm=0.0, save_every=2, hidden_size=6,
                                members=2, min_count=2)


def presence(world: World, run: str = "align", **changes) -> configs.AlignConfig:
    return world.align(run, mode="word_presence", word_presence=PRESENCE, **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("presence")
    return World(folder, tables.KALEIDO, tiny_bank(folder))


@pytest.fixture(scope="module")
def done(world):
    config = presence(world)
    return config, call("align", config)


def test_it_links_content_words_and_says_who_linked_them(world, done):
    config, outcome = done
    assert outcome.status == 0, outcome.err
    bank, place = Bank(world.data.bank), config.run / "word_presence"
    strengths, outcomes = alignment.strengths(bank), results(place)
    assert strengths.shape == (bank.size, bank.text_length, 55) and not strengths[bank.token_words < 0].any()
    assert not (config.run / "captioner").exists() and alignment.info(bank)["mode"] == "word_presence"
    assert outcomes["model"]["head"] == "word presence" and outcomes["model"]["head_of"] == "ours"
    assert outcomes["choice"]["by"] == "none" and set(outcomes["metrics"]) == {"cross_entropy", "average_precision"}
    assert set(outcomes["baselines"]) == {"frequencies"}
    assert {line["split"] for line in map(json.loads, (config.run / "presence/metrics.jsonl").read_text().splitlines())} == {"train", "val"}
    maps, words = np.load(place / "maps.npy"), [json.loads(line) for line in (place / "words.jsonl").read_text().splitlines()]
    assert maps.shape[2:] == (14, 14)
    for row, entry in enumerate(words):
        np.testing.assert_allclose(maps[row].sum((1, 2))[: len(entry["words"])], entry["has_map"], atol=2e-2)
        assert not any(known for word, known in zip(entry["words"], entry["has_map"]) if word in ("with", "in", "for", "a"))
    assert "word presence (ours)" in outcome.out and "average precision" in outcome.out


def test_the_tables_say_which_mode_found_the_parts(done):
    shown = results_tables.show(done[0].run)
    assert "words seen in the picture" in shown and "word presence" in shown


def test_the_controls_stand_beside_what_was_found(done):
    parts = results(done[0].run / "word_presence")["parts"]
    for measure in ("pointing", "camouflage", "grey", "blank"):
        row = parts[measure]
        assert {*METHODS, *CONTROLS, LOOK, "words"} == set(row)
        assert row[LOOK]["sightings"]["value"] == pytest.approx(
            row["alignment"]["sightings"]["value"] - row["position_alone"]["sightings"]["value"])


def test_it_goes_on_where_it_was_interrupted(world, done, interrupt):
    other = presence(world, "interrupted")
    interrupt(3)
    assert call("align", other).status == 130
    interrupt(0)
    assert call("align", other).status == 0
    assert (other.run / "presence/best.npz").read_bytes() == (done[0].run / "presence/best.npz").read_bytes()


def test_other_modes_live_beside_it_and_links_are_made_anew_without_training(world, done, untrained):
    config, _ = done
    before = (config.run / "presence/best.npz").stat().st_mtime_ns
    assert call("align", config, "mode=generated", "baselines=false").status == 0
    assert alignment.info(Bank(world.data.bank))["mode"] == "generated"
    assert call("align", config, "regions.top_k=1").status == 0
    assert (config.run / "presence/best.npz").stat().st_mtime_ns == before
    assert alignment.info(Bank(world.data.bank))["mode"] == "word_presence"


def test_refusals(world, done):
    config, _ = done
    refused(call("align", config, "word_presence.members=3"), "another run.*members: 2 -> 3")
    refused(call("align", config, f"run={world.folder / 'a'}", "word_presence.precision=mixed_bfloat16"), "word_presence.precision is")
    refused(call("align", config, f"run={world.folder / 'b'}", "word_presence.min_count=99"), "no content word", "min_count=1")
    refused(call("align", config, f"run={world.folder / 'c'}", "word_presence.warmup_share=0.9", "--dry-run"), "warm-up takes")
    shown = call("align", config, f"run={world.folder / 'd'}", "--dry-run")
    assert shown.status == 0 and "terms" in shown.out and "word_presence: the rate is highest" in shown.out


def test_other_levels(tmp_path):
    world = World(tmp_path, tables.SIX, tiny_bank(tmp_path, tables.SIX, 12))
    config = replace(presence(world), word_presence=replace(PRESENCE, epochs=1))
    assert call("align", config).status == 0
    assert alignment.strengths(Bank(world.data.bank)).any()
