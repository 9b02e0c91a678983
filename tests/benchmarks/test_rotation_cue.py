"""benchmarks.rotation_cue: noise tells how far it was turned where it is squashed to a square, and does not where it is cut square."""

import json

import numpy as np
import pytest

from benchmarks import rotation_cue

SMALL = ["--pictures", "400", "--side", "56", "--sizes", "45x25"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("cue") / "cue.json"
    assert rotation_cue.main([*SMALL, "--ways", "squash", "mean", "mirror", "square", "--json", str(path)]) == 0
    return json.loads(path.read_text())["sources"]["noise 45x25"]


@pytest.mark.parametrize("probe", ["gradients", "middle", "bars", "profiles", "seam"])
def test_noise_that_is_cut_square_does_not_tell_its_turn(measured, probe):
    assert measured["square"][probe]["low"] <= 0.25 <= measured["square"][probe]["high"] < 0.4


def test_the_probes_find_the_cues_of_other_ways(measured):
    """Else the test above would hold for any way."""
    assert measured["squash"]["gradients"]["low"] > 0.35 and measured["squash"]["middle"]["low"] > 0.35
    assert measured["mean"]["bars"]["low"] > 0.35 and measured["mean"]["middle"]["low"] <= 0.25
    assert measured["mirror"]["seam"]["low"] > 0.35  # its line of symmetry


@pytest.mark.parametrize("way", rotation_cue.WAYS)
@pytest.mark.parametrize("box", [(2, 3, 22, 9), (0, 0, 7, 30), (10, 10, 20, 20)])
def test_every_way_ends_in_a_square(way, box):
    image = np.random.default_rng(0).integers(0, 256, (30, 24, 3)).astype(np.uint8)
    patch = rotation_cue.WAYS[way](image, box, 12)
    assert patch.shape == (12, 12, 3) and patch.dtype == np.uint8
    if box == (10, 10, 20, 20):
        assert (patch == rotation_cue.WAYS["squash"](image, box, 12)).all()


def test_a_catalogue(tmp_path, capsys):
    from tests.support.tiny import tiny_catalogue

    tiny_catalogue(tmp_path / "catalogue")
    names = sorted(path.name for path in (tmp_path / "catalogue").glob("p??-*.png") if "mask" not in path.name)
    (tmp_path / "catalogue/table.csv").write_text("image\n" + "\n".join(names), encoding="utf-8")
    assert rotation_cue.main(["--catalogue", str(tmp_path / "catalogue/table.csv"), "--side", "32", "--pictures", "32"]) == 0
    assert "the square does not fit" in (out := capsys.readouterr().out) and "| square |" in out
