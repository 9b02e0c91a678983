"""benchmarks.scaling and benchmarks.devices: every point is what its name says, and what is printed is what was measured."""

import json

import numpy as np
import pytest

from benchmarks import devices, floors, flops, random_bank, scaling
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from tests.benchmarks.test_benchmarks import tables

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("curve", "points"), [("text", [8, 32]), ("levels", [1])])
def test_a_curve(curve, points, tmp_path, capsys, monkeypatch, unfused):
    monkeypatch.setattr(floors, "LEAST_SECONDS", 0.001)
    path = tmp_path / "scaling.json"
    words = [curve, "--size", "tiny", "--batch", "2", "--layers", "1", "--points", str(len(points)), "--repeats", "2", "--json", str(path)]
    assert scaling.main(words) == 0
    result, (printed,) = json.loads(path.read_text()), tables(capsys.readouterr().out)
    assert [row[curve] for row in result["points"]] == points and list(printed)[1:] == [str(point) for point in points]
    for row in result["points"]:
        sizes = random_bank.sizes("tiny") | {"num_layers": 1, **({"text_length": row["text"]} if curve == "text" else {})}
        levels = KALEIDO[: row["levels"]] if curve == "levels" else KALEIDO
        assert row["prediction"]["gflop"] == pytest.approx(sum(flops.matcher(sizes, levels).values()) / 1e9)
        assert row["forward and backward"]["gflop"] == pytest.approx(flops.training(flops.pretrainer(sizes, levels, 10)) / 1e9)
        cells = [float(cell) for cell in printed[str(row[curve])]]
        assert cells[1] == pytest.approx(1e3 * row["forward and backward"]["seconds"]["wall"], abs=0.06) and min(cells[:3]) > 0
        assert cells[3] == pytest.approx(row["forward and backward"]["share"]["cpu"]["median"], abs=0.006)
    assert f"prediction, {curve} {points[0]} / float32 products" in result["ratios"]


def test_cut():
    inputs = {name: np.arange(24).reshape(4, 6) for name in ("token_ids", "segment_ids", "token_mask")}
    inputs |= {"masked_tokens": np.array([[0, 5]] * 4), "patch_boxes": np.zeros((4, 3, 5))}
    found, targets, _ = scaling.cut((inputs, {"itm": np.arange(4)}, {}), 2, 3)
    assert found["token_ids"].tolist() == [[0, 1, 2], [6, 7, 8]] and found["masked_tokens"].tolist() == [[0, 2]] * 2
    assert found["patch_boxes"].shape == (2, 3, 5) and targets["itm"].tolist() == [0, 1]


def test_devices_compares_all_losses(tmp_path, capsys, monkeypatch):
    asked = []

    def case(settings, processes):
        asked.append((settings["devices"], processes, settings["split"]))
        shift = 1 + 1e-5 * (len(asked) - 1)
        return {"losses": [{"loss": 10.0, "itm": 2.0}, {"loss": 9.0, "itm": 1.0 * shift}], "examples_per_second": 5.0,
                "backend": "tensorflow", "versions": {"keras": "3"}}

    monkeypatch.setattr(devices, "case", case)
    monkeypatch.setattr("benchmarks.hardware.gpus", lambda: [])
    path = tmp_path / "devices.json"
    assert devices.main(["--batch", "4", "--json", str(path)]) == 0
    assert asked == [(1, 1, 1), (2, 1, 2), (4, 1, 4), (1, 2, 1)]
    result = json.loads(path.read_text())
    assert [row["difference"] for row in result["cases"]] == pytest.approx([0, 1e-5, 2e-5, 3e-5])
    assert result["equal_digits"] == pytest.approx(-np.log10(3e-5))
    assert "| 2 | 1 | 10.00000 | 9.00000 | 3.0e-05 | 5.0 |" in capsys.readouterr().out
    asked.clear()
    monkeypatch.setattr("benchmarks.hardware.gpus", lambda: ["one", "two"])
    devices.main(["--batch", "4"])
    assert asked == [(1, 1, 0), (2, 1, 0), (1, 2, 0)]  # as many as there are, and none is split


def test_a_worker_that_fails_ends_in_a_word():
    with pytest.raises(UserError, match="1 processes with 1 devices: KeyError: 'split'"):
        devices.case({"devices": 1}, 1)
