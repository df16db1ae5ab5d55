"""Statistics of an image's values, frame by frame so that memory stays that of one. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .criteria import Criteria
from .errors import NotAnalysableError
from .functional_groups import element
from .image_file import frame_count
from .pixels import ModalityImage, hounsfield_values, radiograph_values
from .reading import NotAnalysed
from .suitability import check_image
from .windows import Window


@dataclass(frozen=True, slots=True)
class PixelFacts:
    """What the values of an image are like.

    Attributes
    ----------
    low, high, mean, std : float
        HU for CT; for other images modality values with tissue and bone high.
    share_in_window : float
        Of the pixels, 0 to 1, that lie within a window.
    frames : int
    notes : tuple of str
        What was done to the pixels.
    """

    low: float
    high: float
    mean: float
    std: float
    share_in_window: float
    frames: int
    notes: tuple[str, ...]


def is_ct(dataset: Dataset) -> bool:
    """Return whether an image's values are Hounsfield units."""
    return bool(element(dataset, "Modality") == "CT")


def modality_image(dataset: Dataset, frame: int) -> ModalityImage:
    """Return the values of a frame: HU of CT, else as of a projection image.

    Raises
    ------
    NotAnalysableError
        If it has no pixels or they cannot be decoded.
    """
    image = (
        hounsfield_values(dataset, frame) if is_ct(dataset) else radiograph_values(dataset, frame)
    )
    if not image.values.size:
        raise NotAnalysableError(NotAnalysed.NOT_AN_IMAGE, "the instance holds no pixels")
    return image


def pixel_facts(dataset: Dataset, window: Window) -> PixelFacts:
    """Decode all frames and count.

    Raises
    ------
    NotAnalysableError
        If it has no pixels or they cannot be decoded.
    """
    check_image(dataset, Criteria(min_rows=1))
    frames = frame_count(dataset)
    lows, highs, notes = [], [], dict[str, None]()
    count, total, squares, inside = 0, 0.0, 0.0, 0
    for frame in range(frames):
        image = modality_image(dataset, frame)
        values = image.values.astype(np.float64)
        notes |= dict.fromkeys(image.notes)
        lows.append(float(values.min()))
        highs.append(float(values.max()))
        count += values.size
        total += float(values.sum())
        squares += float((values**2).sum())
        inside += _inside(values, window)
    mean = total / count
    return PixelFacts(
        low=min(lows),
        high=max(highs),
        mean=mean,
        std=sqrt(max(0.0, squares / count - mean**2)),
        share_in_window=inside / count,
        frames=frames,
        notes=tuple(notes),
    )


def _inside(values: NDArray[np.float64], window: Window) -> int:
    reach = window.width / 2
    return int(((values >= window.center - reach) & (values <= window.center + reach)).sum())
