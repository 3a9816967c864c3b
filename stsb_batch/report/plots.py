"""Two plots of scores against labels, as PNG: a scatter plot and the residuals."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stsb_batch.errors import storage_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, DPI = 5.0, 120  # inches, dots per inch
MAX_POINTS = 5_000  # of a part; more would only cover each other
COLOURS = {"train": "#b8bec9", "val": "#d98c2b", "test": "#2563a8"}


def save_plots(parts: dict[str, tuple[np.ndarray, np.ndarray]], title: str, folder: Path) -> list[Path]:
    """Draw (labels, scores) of each part, each (pairs,), and write `scatter.png` and `residuals.png` into `folder`.

    Returns the files. Raises `StorageError` or `PermissionDeniedError` when they cannot be written.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it logs that it builds its font cache
    scatter, residuals = _figure("label", "score", _plain(title)), _figure("score", "score - label", _plain(title))
    scatter.gca().plot([0, 5], [0, 5], color="black", linewidth=0.8)
    residuals.gca().axhline(0, color="black", linewidth=0.8)
    for name, (labels, scores) in parts.items():
        rows = np.unique(np.linspace(0, len(labels) - 1, min(MAX_POINTS, len(labels))).astype(int))
        style: dict[str, Any] = {
            "s": 7,
            "alpha": 0.5,
            "linewidths": 0,
            "color": COLOURS.get(name, "#2563a8"),
            "label": _plain(name),
        }
        scatter.gca().scatter(labels[rows], scores[rows], **style)
        residuals.gca().scatter(scores[rows], (scores - labels)[rows], **style)
    paths = [folder / "scatter.png", folder / "residuals.png"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure, path in zip((scatter, residuals), paths, strict=True):
            figure.gca().legend(frameon=False, markerscale=2)
            figure.savefig(path, dpi=DPI, facecolor="white")
    except OSError as error:
        raise storage_error(error, "saving the plots (choose a folder with --plots)", folder) from error
    return paths


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar sign would start a formula


def _figure(across: str, up: str, title: str) -> "Figure":
    """Return a figure with one pair of axes, drawn by Agg, without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIDE, SIDE), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up, title=title)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure
