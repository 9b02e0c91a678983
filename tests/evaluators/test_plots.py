"""Pictures: they come out, complete or not at all, and show what they should."""

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from kaleidobert.errors import UserError
from kaleidobert.evaluators import pretraining
from kaleidobert.evaluators.report import plots
from kaleidobert.levels import KALEIDO

pytestmark = pytest.mark.plotted


def rows(count: int = 120):
    for step in range(0, 10 * count, 10):
        yield {"step": step, "split": "train", "loss": 9.0 / (1 + step), "grey_kl": 0.5, "mlm_loss": 5.0 + step % 7, "rate": 1e-4}
    for step in range(0, 10 * count, 300):
        yield {"step": step, "split": "val", "grey_kl": 0.6, "mlm_loss": None, "mlm_accuracy": 0.5, "jigsaw_loss": float("nan")}


def opened(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def has_colour(picture: np.ndarray, colour: str) -> bool:
    wanted = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(picture.astype(int) - wanted).max(axis=2) < 3).any())


def test_loss_curves(tmp_path):
    plots.loss_curves(rows(), tmp_path / "new/loss.png", chance=pretraining.chance(KALEIDO, 30522))
    picture = opened(tmp_path / "new/loss.png")
    assert all(has_colour(picture, colour) for colour in (plots.TRAIN, plots.VAL, plots.MUTED))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["loss.png"]


def test_curves_are_read_from_rows():
    found = plots._curves([*rows(), {"step": 0, "split": "train", "loss": 7.0}])
    assert list(found) == ["loss", "grey_kl", "mlm_loss", "jigsaw_loss"]  # neither rates nor accuracies
    assert list(found["grey_kl"]) == ["train", "val"]
    steps, values = found["loss"]["train"]
    assert (np.diff(steps) > 0).all() and values[0] == 7.0  # a step written again after a restart counts once
    assert np.isnan(found["mlm_loss"]["val"][1]).all()


def test_smoothing_is_a_mean_that_keeps_gaps():
    values = np.arange(150.0)
    np.testing.assert_allclose(plots._smoothed(values)[5:-5], values[5:-5])
    values[70] = np.nan
    found = plots._smoothed(values)
    assert np.isnan(found[70]) and np.isfinite(np.delete(found, 70)).all() and found[69] == pytest.approx((68 + 69) / 2)


@pytest.mark.parametrize("count", [2, 17, 70])
def test_confusion(tmp_path, count):
    rng = np.random.Generator(np.random.Philox(count))
    matrix = rng.integers(3, size=(count, count)) + 20 * np.eye(count, dtype=int)
    matrix[1] = 0  # a class without examples
    plots.confusion(matrix, [f"class {i} with a very long name indeed" for i in range(count)], tmp_path / "confusion.png")
    picture = opened(tmp_path / "confusion.png")
    assert min(picture.shape[:2]) >= 0.16 * plots.DPI * count
    assert has_colour(picture, "#EEEEEE")


def test_names_stay_readable_with_70_classes(tmp_path, monkeypatch):
    """No two labels of an axis may overlap."""
    boxes = []

    def measure(figure, path):
        figure.draw_without_rendering()
        axis = figure.axes[0]
        boxes.append([label.get_window_extent() for label in axis.get_yticklabels()])
        boxes.append([label.get_window_extent() for label in axis.get_xticklabels()])

    monkeypatch.setattr(plots, "save", measure)
    plots.confusion(np.eye(70, dtype=int), [f"Lounge Tshirts {i}" for i in range(70)], tmp_path / "confusion.png")
    for labels in boxes:
        assert len(labels) == 70
        assert not any(one.overlaps(other) for one, other in pairwise(labels))


@pytest.mark.parametrize("ranks", [np.ones(3), np.full(4, 101.0), np.linspace(1, 101, 300), np.array([1.5])])
def test_rank_histogram(tmp_path, ranks):
    plots.rank_histogram(ranks, tmp_path / "ranks.png")
    assert has_colour(opened(tmp_path / "ranks.png"), plots.VAL)


def test_refusals_leave_no_file(tmp_path):
    path = tmp_path / "picture.png"
    with pytest.raises(UserError, match="no row holds a loss"):
        plots.loss_curves([{"step": 1, "split": "train", "rate": 1.0}], path)
    with pytest.raises(UserError, match="2 names"):
        plots.confusion(np.eye(3), ["a", "b"], path)
    for ranks in (np.array([]), np.array([0.5]), np.array([102.0]), np.array([np.nan])):
        with pytest.raises(UserError, match="from 1 to 101"):
            plots.rank_histogram(ranks, path)
    assert not list(tmp_path.iterdir())


def test_a_failure_while_drawing_keeps_the_old_picture(tmp_path, monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = tmp_path / "ranks.png"
    path.write_bytes(b"old")

    def fail(self, file: io.IOBase):
        file.write(b"half a picture")
        raise RuntimeError("no memory")

    monkeypatch.setattr(FigureCanvasAgg, "print_png", fail)
    with pytest.raises(RuntimeError):
        plots.rank_histogram(np.ones(3), path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_importing_the_evaluators_loads_nothing_heavy():
    code = ("import sys; from kaleidobert.evaluators import baselines, classification, pretraining, retrieval; "
            "from kaleidobert.evaluators import candidates; from kaleidobert.evaluators.report import plots; "
            "print(sorted({'matplotlib', 'sklearn', 'scipy', 'tensorflow', 'keras'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
