"""The two plots of an evaluation."""

from pathlib import Path

import numpy as np
import pytest

from stsb_batch.errors import StsbBatchError
from stsb_batch.report.plots import save_plots


def test_plots_are_png_files(tmp_path: Path):
    """Two PNG files are written into a folder that is made, also for a part without points."""
    labels = np.linspace(0, 5, 50)
    empty = np.array([])
    paths = save_plots({"val": (empty, empty), "test": (labels, labels + 0.3)}, "a model", tmp_path / "new" / "plots")
    assert [path.name for path in paths] == ["scatter.png", "residuals.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_plots_that_cannot_be_saved_are_told(tmp_path: Path):
    """A file where the folder should be is one clear error that names the option."""
    (tmp_path / "taken").touch()
    with pytest.raises(StsbBatchError, match="choose a folder with --plots"):
        save_plots({}, "a model", tmp_path / "taken")
