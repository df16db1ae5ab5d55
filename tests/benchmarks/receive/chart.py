"""The chart: images per second over associations, for each kind of image."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from figures import Figures, throughput
from storescu import ASSOCIATIONS

_KINDS = {
    "CT": "CT 512x512, 537 KB",
    "DX": "DX 2500x2048, 10 MB",
    "small": "CR as JPEG, 22 KB",
}
_COLOURS = {
    "storescp": "#b8b8b8",
    "orthanc": "#7a7a7a",
    "reactor": "#e3a857",
    "preread": "#1f6feb",
    "preread-pg": "#7fb2f5",
}


class NoChartError(Exception):
    """matplotlib is not installed."""


def draw(taken: Figures, titles: Mapping[str, str], path: Path) -> None:
    """Write a PNG; raise NoChartError without matplotlib."""
    try:
        importlib.import_module("matplotlib").use("agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise NoChartError("no chart: matplotlib is not installed") from error

    kinds = [kind for kind in _KINDS if _has(taken, kind)]
    if not kinds:
        return
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.6), squeeze=False)
    peers = [name for name in titles if any(_heights(taken, kind, name) for kind in kinds)]
    width = 0.8 / len(peers)
    for axis, kind in zip(axes[0], kinds, strict=True):
        # storescp, which promises nothing, would press all others to the floor.
        ceiling = _ceiling(taken, kind, peers)
        axis.set_ylim(0, ceiling)
        for place, peer in enumerate(peers):
            heights = _heights(taken, kind, peer) or [0.0] * len(ASSOCIATIONS)
            lefts = [column + place * width for column in range(len(ASSOCIATIONS))]
            axis.bar(lefts, heights, width * 0.92, label=titles[peer], color=_COLOURS[peer])
            for left, height in zip(lefts, heights, strict=True):
                at = min(height, ceiling * 0.99)
                axis.text(left, at, f"{height:.0f} ", rotation=90, ha="center", va="top", size=6)
        middle = 0.4 - width / 2
        axis.set_xticks([column + middle for column in range(len(ASSOCIATIONS))], ASSOCIATIONS)
        axis.set_title(_KINDS[kind], fontsize=10)
        axis.set_xlabel("associations")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("images per second")
    handles, labels = axes[0][0].get_legend_handles_labels()
    labels = [label.replace("storescp", "storescp (no sync; bars cut off)") for label in labels]
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _has(taken: Figures, kind: str) -> bool:
    names = {throughput(kind, "raw", n).name for n in ASSOCIATIONS}
    return any(measure.name in names for measure in taken.measures())


def _heights(taken: Figures, kind: str, peer: str) -> list[float]:
    medians = [taken.median(throughput(kind, "raw", n), peer) for n in ASSOCIATIONS]
    return [value or 0.0 for value in medians] if any(medians) else []


def _ceiling(taken: Figures, kind: str, peers: list[str]) -> float:
    durable = [peer for peer in peers if peer != "storescp"] or peers
    return 1.25 * max(max(_heights(taken, kind, peer), default=1.0) for peer in durable)
