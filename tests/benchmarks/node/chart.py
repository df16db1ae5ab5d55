"""The charts: the stages of one X-ray, and a worker's memory over many."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from figures import Figures
from stages import STAGES

_COLOURS = ("#d0d7de", "#7a7a7a", "#e3a857", "#1f6feb", "#7fb2f5", "#b08ad6", "#5aa469", "#c0504d")


class NoChartError(Exception):
    """matplotlib is not installed."""


def draw(taken: Figures, path: Path) -> None:
    """Write a PNG; raise NoChartError without matplotlib."""
    drawings = [
        drawing
        for drawing, is_wanted in ((_stages, bool(taken.ways)), (_flat, taken.flat is not None))
        if is_wanted
    ]
    if not drawings:
        return
    try:
        importlib.import_module("matplotlib").use("agg")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise NoChartError("no chart: matplotlib is not installed") from error
    figure, axes = pyplot.subplots(
        len(drawings), 1, figsize=(9, 3.4 * len(drawings)), squeeze=False
    )
    for drawing, axis in zip(drawings, axes[:, 0], strict=True):
        drawing(taken, axis)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _stages(taken: Figures, axis: Any) -> None:
    for row, way in enumerate(taken.ways):
        left = 0.0
        for place, stage in enumerate(STAGES):
            width = 1000 * (way.stage(place) or 0.0)
            label = stage if row == 0 else None
            axis.barh(row, width, 0.6, left, color=_COLOURS[place], label=label)
            left += width
    axis.set_yticks(range(len(taken.ways)), [way.title for way in taken.ways], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("ms after the response to the C-STORE")
    axis.legend(fontsize=7, ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0))


def _flat(taken: Figures, axis: Any) -> None:
    assert taken.flat is not None
    samples = taken.flat.samples
    numbers = [one.n for one in samples]
    for label, values, colour in (
        ("worker, resident", [one.worker_mb for one in samples], "#1f6feb"),
        ("worker, its own", [one.worker_anonymous_mb for one in samples], "#7fb2f5"),
        ("scp, resident", [one.scp_mb for one in samples], "#e3a857"),
    ):
        axis.plot(numbers, values, label=label, color=colour)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("X-rays analysed")
    axis.set_ylabel("MB")
    axis.legend(fontsize=8, frameon=False)
