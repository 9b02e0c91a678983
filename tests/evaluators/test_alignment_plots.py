"""Figures of an alignment: they come out and show what they should."""

import numpy as np
import pytest
from PIL import Image

from kaleidobert.errors import UserError
from kaleidobert.evaluators import alignment
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.plots import TRAIN, VAL
from tests.evaluators.test_plots import has_colour, opened
from tests.support.tables import TABLES

pytestmark = pytest.mark.plotted


def statistics(levels, share=0.4):
    rng = np.random.default_rng(0)
    count = sum(level.num_patches for level in levels)
    words = [[f"word{number}" for number in rng.integers(20, size=8)] for _ in range(60)]
    token_words = np.tile(np.array([-1, *range(8), -1], np.int16), (60, 1))
    strengths = ((rng.random((60, 10, count)) < 0.1) & (rng.random((60, 10, 1)) < share)).astype(np.float16)
    return alignment.statistics(strengths, token_words, words, levels)


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_corpus(tmp_path, levels):
    plots.alignment_statistics(statistics(levels), tmp_path / "a.png")
    picture = opened(tmp_path / "a.png")
    assert has_colour(picture, TRAIN) and has_colour(picture, VAL) == (sum(level.num_masked > 0 for level in levels) > 1)
    plots.alignment_statistics(statistics(levels, 0), tmp_path / "none.png")
    assert not (opened(tmp_path / "none.png").shape != picture.shape)


def test_located(tmp_path):
    values = {method: {"value": 0.1 * n, "low": 0.05 * n, "high": 0.15 * n} for n, method in enumerate(alignment.METHODS, 1)}
    values = {method: {**row, "sightings": row} for method, row in values.items()}
    plots.located_parts({"pointing": {**values, "words": {}}, "grey": {**values, "words": {}}}, tmp_path / "b.png")
    picture = opened(tmp_path / "b.png")
    assert all(has_colour(picture, colour) for colour in plots.METHOD_COLOURS.values())


def test_nothing_to_draw(tmp_path):
    with pytest.raises(UserError, match="no level has masked patches"):
        plots.alignment_statistics({"patches_per_word": {}}, tmp_path / "c.png")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        Image.open(tmp_path / "c.png")
