"""docs/tour.ipynb runs from its first cell to its last, and shows what its text promises."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow
TOUR = Path(__file__).resolve().parents[1] / "docs/tour.ipynb"


def test_the_notebook_is_stored_without_outputs():
    """Outputs of one machine would be figures that nobody measured again, and paths of that machine."""
    cells = nbformat.read(TOUR, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the notebook makes its folder
    book = nbformat.read(TOUR, as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()  # raises at a cell that fails
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output["text"] for output in outputs if output.output_type == "stream")
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4  # products, patches, links, masks
    assert "55 patches, 74 vectors per picture" in printed and "the same step again: True" in printed
    assert printed.count("[MASK]") >= 2 and "rotation    truth" in printed
