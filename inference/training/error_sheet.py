"""Films that a reader alarms on, side by side, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..lungs import lung_box
from .chest_films import read_values

_TILE, _COLUMNS = 300, 6


@dataclass(frozen=True, slots=True)
class Alarm:
    """A film and the probability it was given."""

    path: Path
    probability: float


def write_sheet(out: Path, alarms: Sequence[Alarm]) -> None:
    """Write the lungs of the films as a PNG, six in a row, each with its name and probability.

    Raises
    ------
    InferenceError
        If a film is no picture any more.
    """
    rows = max(1, -(-len(alarms) // _COLUMNS))
    sheet = Image.new("L", (_COLUMNS * _TILE, rows * _TILE))
    for place, alarm in enumerate(alarms):
        row, column = divmod(place, _COLUMNS)
        sheet.paste(_tile(alarm), (column * _TILE, row * _TILE))
    sheet.save(out)


def _tile(alarm: Alarm) -> Image.Image:
    values = read_values(alarm.path)
    top, left, bottom, right = lung_box(values) or (0, 0, *values.shape)
    part = values[top:bottom, left:right]
    low, high = np.percentile(part, (0.5, 99.5))
    grey = np.clip((part - low) / max(float(high - low), 1e-6), 0, 1) * 255
    tile = Image.fromarray(grey.astype(np.uint8)).resize((_TILE - 4, _TILE - 4))
    ImageDraw.Draw(tile).text((4, 4), f"{alarm.path.stem[:16]} {alarm.probability:.2f}", fill=255)
    return tile
