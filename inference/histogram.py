"""How the values of an image are spread. Bars of text need nothing, the plot matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .evaluation.plots import drawing
from .pixel_facts import is_ct, modality_image
from .windows import Window

_BARS, _LENGTH = 20, 50


def value_counts(
    dataset: Dataset, frame: int, bins: int = _BARS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many pixels lie in each of at most `bins` equal steps, and the edges of these.

    Of whole numbers a step has a whole number of values, the same in each: otherwise some steps
    would have one value more than others, and the picture a comb that is not in the image.

    Raises
    ------
    NotAnalysableError
        If the frame cannot be decoded.
    """
    values = modality_image(dataset, frame).values.astype(np.float64)
    counts, edges = np.histogram(values, bins=_edges(values, bins))
    return counts.astype(np.int64), edges.astype(np.float64)


def _edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    if not np.array_equal(values, np.rint(values)):
        return np.histogram_bin_edges(values, bins)
    step = ceil((high - low + 1) / bins)
    return low + step * np.arange(ceil((high - low + 1) / step) + 1.0)


def as_text(counts: NDArray[np.int64], edges: NDArray[np.float64]) -> str:
    """Return bars of text, a line for each step; the longest stands for the fullest."""
    most = max(1, int(counts.max()))
    lines = []
    for count, low in zip(counts, edges, strict=False):
        # What is there at all is seen.
        length = max(round(_LENGTH * int(count) / most), int(count > 0))
        lines.append(f"{low:>10.1f}  {'#' * length:<{_LENGTH}}  {int(count)}".rstrip())
    return "\n".join(lines) + "\n"


def write_plot(path: Path, dataset: Dataset, frame: int, windows: Sequence[Window]) -> None:
    """Write a histogram as PNG, with the windows shaded; the scale of counts is logarithmic.

    Raises
    ------
    InferenceError
        If matplotlib is missing, or the frame cannot be decoded.
    """
    drawing()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts, edges = value_counts(dataset, frame, 256)
    figure = Figure(figsize=(7, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.stairs(counts, edges, fill=True, color="#1f6feb")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, None)
    axes.set_xlabel("HU" if is_ct(dataset) else "value")
    axes.set_ylabel("pixels")
    for number, window in enumerate(windows):
        low, high = window.center - window.width / 2, window.center + window.width / 2
        name = f"{window.name} {window.center:g}/{window.width:g}".strip()
        axes.axvspan(low, high, alpha=0.18, color=f"C{number + 1}", label=name)
    if windows:
        axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, format="png")
