"""The chart: images per second of each way, for each case."""

from __future__ import annotations

import importlib
from pathlib import Path

from options import BARE, DICTIONARIES, OURS, TUTORIAL, Options
from run import Figures

_COLOURS = {
    BARE: "#b8b8b8",
    OURS: "#1f6feb",
    TUTORIAL: "#e3a857",
    DICTIONARIES: "#7a7a7a",
}


class NoChartError(Exception):
    """matplotlib is not installed."""


def draw(taken: Figures, options: Options, path: Path) -> None:
    """Write a PNG; raise NoChartError without matplotlib."""
    try:
        importlib.import_module("matplotlib").use("agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise NoChartError("no chart: matplotlib is not installed") from error
    shown = [one for one in taken.files if one.taken]
    figure, axis = pyplot.subplots(figsize=(8.4, 0.75 * len(shown) + 1.2))
    height = 0.8 / len(_COLOURS)
    for place, (name, colour) in enumerate(_COLOURS.items()):
        costs = [one.cost(name, options.by) for one in shown]
        widths = [1 / cost if cost else 0.0 for cost in costs]
        tops = [row + place * height for row in range(len(shown))]
        axis.barh(tops, widths, height * 0.92, label=name, color=colour)
        for top, width in zip(tops, widths, strict=True):
            axis.text(width, top, f" {width:.1f}" if width else " cannot", va="center", size=7)
    axis.set_yticks([row + 0.3 for row in range(len(shown))])
    axis.set_yticklabels([one.case.plan.title for one in shown], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel("images per second, files to probabilities")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
