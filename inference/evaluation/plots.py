"""The figures as drawings: SVG made by matplotlib, letters as outlines, the same every time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError
from ..extras import installed_by
from .label_figures import LabelFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _GRID, _FAINT = "#1d2733", "#d8dee6", "#8a97a6"
_BLUE, _RED = "#1f6feb", "#c2410c"
_SIZE = (3.3, 3.1)
# More points than this are no finer on paper and only make the page heavy.
_MOST_POINTS = 300


def roc(label: LabelFigures) -> str:
    """Return the ROC curve as SVG; empty where there is none."""
    if label.roc is None:
        return ""
    figure, axes = _axes("1 - specificity", "sensitivity", "ROC")
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.8, linestyle="--")
    axes.plot(*_thinned(*label.roc), color=_BLUE, linewidth=1.6)
    counts = label.counts
    axes.plot(
        counts.fp / (counts.fp + counts.tn),
        counts.tp / (counts.tp + counts.fn),
        marker="o", color=_RED, markersize=6, linestyle="", label=f"at {label.thresholds.high:g}",
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _svg(figure)


def precision_recall(label: LabelFigures) -> str:
    """Return precision over recall as SVG; empty where there is none."""
    if label.precision_recall is None:
        return ""
    figure, axes = _axes("recall (sensitivity)", "precision (PPV)", "Precision and recall")
    prevalence = label.positives / label.images
    axes.axhline(prevalence, color=_FAINT, linewidth=0.8, linestyle="--",
                 label=f"prevalence {prevalence:.3f}")  # fmt: skip
    recall, precision = label.precision_recall
    axes.plot(*_thinned(recall, precision), color=_BLUE, linewidth=1.6,
              drawstyle="steps-pre")  # fmt: skip
    counts = label.counts
    if counts.tp + counts.fp:
        axes.plot(
            counts.tp / (counts.tp + counts.fn), counts.tp / (counts.tp + counts.fp), marker="o",
            color=_RED, markersize=6, linestyle="", label=f"at {label.thresholds.high:g}",
        )  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return _svg(figure)


def reliability(label: LabelFigures) -> str:
    """Return frequency over probability as SVG."""
    figure, axes = _axes("mean probability", "share that is positive", "Reliability")
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.8, linestyle="--")
    bins = label.reliability
    observed = np.array([one.observed for one in bins])
    low = observed - np.array([one.observed_low for one in bins])
    high = np.array([one.observed_high for one in bins]) - observed
    most = max(one.count for one in bins)
    predicted = [one.predicted for one in bins]
    # Rounding of the ends may leave a length of -1e-17, which matplotlib refuses.
    axes.errorbar(predicted, observed, yerr=np.maximum([low, high], 0), color=_BLUE, linewidth=1,
                  elinewidth=0.8, capsize=2, zorder=2)  # fmt: skip
    axes.scatter(predicted, observed, s=[12 + 60 * one.count / most for one in bins], color=_BLUE,
                 zorder=3)  # fmt: skip
    return _svg(figure)


def spread(label: LabelFigures) -> str:
    """Return how probabilities of negative and positive images spread, as SVG."""
    figure, axes = _axes("probability", "share of images", "Probabilities")
    edges = spread_edges(len(label.scores))
    groups = (("negative", ~label.truth, _BLUE), ("positive", label.truth, _RED))
    tallest = 0.0
    for name, chosen, colour in groups:
        count = int(chosen.sum())
        if count:
            weights = np.full(count, 1 / count)
            shares, _ = np.histogram(label.scores[chosen], edges, weights=weights)
            axes.stairs(shares, edges, fill=True, alpha=0.45, color=colour,
                        label=f"{name}, {count}")  # fmt: skip
            tallest = max(tallest, float(np.max(shares)))
    for threshold in {label.thresholds.low, label.thresholds.high}:
        axes.axvline(threshold, color=_INK, linewidth=0.8, linestyle=":")
    # Room above for the legend.
    axes.set_ylim(0, 1.25 * tallest)
    axes.legend(frameon=False, fontsize=8, loc="upper center")
    return _svg(figure)


def spread_edges(images: int) -> NDArray[np.float64]:
    """Return the edges of bins of probability: 10 for few images, up to 50 where there are many.

    The number is one of 10, 20, 25 and 50, about the root of the number of images: more would
    show chance, fewer hide what lies near 0 and 1. Edges are the same for both outcomes, and
    are what a decimal number of that value is, so that a score of 0.3 lies where 0.3 does.
    """
    bins = max((n for n in (20, 25, 50) if n * n <= images), default=10)
    return np.arange(bins + 1) / bins


def _thinned(
    across: NDArray[np.float64], up: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(across) <= _MOST_POINTS:
        return across, up
    # By the length of the curve, so that a steep beginning keeps its shape.
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(across)) + np.abs(np.diff(up)))])
    kept = np.searchsorted(along, np.linspace(0, along[-1], _MOST_POINTS))
    return across[kept], up[kept]


def _axes(across: str, up: str, title: str) -> tuple[Any, Axes]:
    matplotlib = drawing()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE)
        figure.subplots_adjust(left=0.17, right=0.97, bottom=0.15, top=0.91)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    matplotlib = drawing()
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    written = text.getvalue()
    return written[written.index("<svg") :]


def drawing() -> Any:
    """Return matplotlib.

    Raises
    ------
    InferenceError
        If it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InferenceError(f"drawing needs matplotlib: {installed_by('train')}") from error
    return matplotlib


_STYLE = {
    "svg.hashsalt": "preread",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": _FAINT,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
