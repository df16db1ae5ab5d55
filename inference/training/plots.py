"""Pictures for the run folder: how often each label occurs, how the loss depends on the rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InferenceError
from ..extras import installed_by
from .progress import EpochReport
from .sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED = "#3b6ea5", "#b5493a"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InferenceError(f"plots need matplotlib: {installed_by('train')}") from error
    # Without pyplot: no window, no state of the whole process.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def plot_labels(path: Path, counts: Mapping[str, tuple[int, int]]) -> None:
    """Draw a bar for each label: `counts` tells how many images have it and how many have not."""
    figure, axes = _figure(7, 0.5 * len(counts) + 1.5)
    names = list(counts)[::-1]
    bars = axes.barh(names, [counts[name][0] for name in names], color=_BLUE)
    shares = [counts[name][0] / max(1, sum(counts[name])) for name in names]
    told = [f"{counts[n][0]:,} ({share:.1%})" for n, share in zip(names, shares, strict=True)]
    axes.bar_label(bars, told, padding=4)
    axes.margins(x=0.2)
    axes.set_xlabel(f"images with the label, of {sum(counts[names[0]]):,}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def plot_learning_rate(path: Path, sweep: Sweep) -> None:
    """Draw the loss over the learning rate, with both suggestions."""
    figure, axes = _figure(7, 4.5)
    axes.plot(sweep.rates, sweep.losses, color=_BLUE)
    for rate, name, style in (
        (sweep.steepest, "steepest", "--"),
        (sweep.minimum_over_ten, "minimum / 10", ":"),
    ):
        axes.axvline(rate, color=_RED, linestyle=style, label=f"{name}: {rate:.2e}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, smoothed")
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def plot_epochs(path: Path, reports: Sequence[EpochReport]) -> None:
    """Draw the losses of training and validation over the epochs."""
    figure, axes = _figure(7, 4.5)
    epochs = [report.epoch for report in reports]
    axes.plot(epochs, [r.loss for r in reports], "o-", color=_BLUE, label="training")
    axes.plot(epochs, [r.validation_loss for r in reports], "o-", color=_RED, label="validation")
    axes.set_xlabel("epoch")
    axes.set_ylabel("weighted log loss")
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
