"""The one way from modality values to the tensor that a network sees, in training and in service.

Everything runs where it is told to: values go to the device as they are and every step happens
there. A picture, or the part of it that the reader is shown, is scaled to fit the square with its
aspect ratio kept and centred on black, because squeezing a radiograph changes the angles and ratios
that a reader learns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from .heads import head_boxes
from .input_spec import InputSpec
from .lungs import lung_box
from .placement import Box, Placement
from .planes import place_plane, prepare_planes
from .polarity import looks_negative
from .resize import Greys, fitted, scale_plane
from .windows import Window

__all__ = [
    "InputSpec",
    "Placement",
    "place_ct",
    "place_radiograph",
    "prepare_ct",
    "prepare_radiograph",
]

# Share of the pixels, at either end, that may be burned-in letters, markers or dead: they set
# neither black nor white.
_TAIL = 0.005


def place_radiograph(values: NDArray[np.float32], spec: InputSpec) -> Placement:
    """Return which part of a radiograph, (rows, columns), is shown and where in the input.

    Where a reader of lungs is to see them and none are found, it sees the whole picture.
    """
    rows, columns = values.shape
    if spec.plane is not None:
        return place_plane(rows, columns, spec)
    if spec.crop == "square":
        return Placement((rows, columns), _central(rows, columns), spec.size)
    if spec.crop == "lungs":
        bone_high = -values if spec.polarity == "chest" and looks_negative(values) else values
        if (box := lung_box(bone_high)) is not None:
            return Placement((rows, columns), box, spec.size)
    return Placement.whole((rows, columns), spec.size)


def place_ct(
    hu: NDArray[np.float32], spec: InputSpec, device: torch.device
) -> tuple[Placement, ...]:
    """Return which part of each slice, (slices, rows, columns), is shown and where in the input."""
    count, rows, columns = (int(length) for length in hu.shape)
    if spec.plane is not None:
        return (place_plane(rows, columns, spec),) * count
    if spec.crop == "none":
        return (Placement.whole((rows, columns), spec.size),) * count
    slices = torch.from_numpy(np.ascontiguousarray(hu, dtype=np.float32)).to(device)
    return tuple(Placement((rows, columns), box, spec.size) for box in head_boxes(slices))


def prepare_radiograph(
    values: NDArray[np.float32],
    spec: InputSpec,
    device: torch.device,
    placement: Placement | None = None,
    full_range: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Make the input of a radiograph reader.

    Intensity is spread from the 0.5th to the 99.5th percentile of the resized picture, so that
    neither the exposure nor the bit depth nor an offset of the values matters; or, where the
    specification says so, over the full range that the values could have.

    Parameters
    ----------
    values : ndarray of float32, (rows, columns)
        Modality values with tissue and bone high, as in MONOCHROME2.
    spec : InputSpec
        Of kind ``radiograph``.
    device : torch.device
        Where to compute and leave the result.
    placement : Placement, optional
        What to show; `place_radiograph` if left out.
    full_range : tuple of float, optional
        Lowest and highest value that a pixel could have; needed for the intensity ``full_range``.

    Returns
    -------
    Tensor of float32, (1, channels, size, size)
        Within the value range, 0 to 1 by default; the same in every channel, and of one
        value alone for a picture without contrast.

    Raises
    ------
    ValueError
        If the full range is needed and not given.
    """
    if spec.plane is not None:
        negative = spec.polarity == "chest" and looks_negative(values)
        seen = values.min() + values.max() - values if negative else values
        return prepare_planes(seen[None], spec, device)
    by_bits = spec.intensity == "full_range"
    if by_bits and (full_range is None or not full_range[0] < full_range[1]):
        raise ValueError("the pixels have no full range")
    placed = placement or place_radiograph(values, spec)
    turned = spec.polarity == "chest" and looks_negative(values)
    if device.type == "cpu":
        spread = _film_on_cpu(values, placed, full_range if by_bits else None, turned)
    else:
        spread = _film(values, placed, full_range if by_bits else None, turned, device)
    if not by_bits:
        low, high = _percentiles(spread)
        spread = (spread - low) / (high - low) if high > low else torch.zeros_like(spread)
    centered = _center(spread.clamp(0.0, 1.0), spec.size)
    black, white = spec.value_range
    if (black, white) != (0.0, 1.0):
        centered = centered * (white - black) + black
    return centered.repeat(1, spec.copies, 1, 1)


def prepare_ct(
    hu: NDArray[np.float32],
    spec: InputSpec,
    device: torch.device,
    placements: Sequence[Placement] | None = None,
) -> torch.Tensor:
    """Make the input of a reader of CT slices: a channel for each window.

    Windows are applied before resizing: bone of 1,500 HU would otherwise spread over the
    neighbouring millimetre, which is where a thin subdural lies.

    Parameters
    ----------
    hu : ndarray of float32, (slices, rows, columns)
        Hounsfield units.
    spec : InputSpec
        Of kind ``ct_slices``.
    device : torch.device
        Where to compute and leave the result.
    placements : sequence of Placement, optional
        What to show of each slice; `place_ct` if left out.

    Returns
    -------
    Tensor of float32, (slices, windows, size, size)
        0 to 1.
    """
    if spec.plane is not None:
        return prepare_planes(hu, spec, device)
    placed = tuple(placements or place_ct(hu, spec, device))
    if device.type == "cpu":
        return _slices_on_cpu(hu, spec, placed)
    slices = torch.from_numpy(np.ascontiguousarray(hu, dtype=np.float32)).to(device)
    channels = torch.stack([window.apply(slices) for window in spec.windows], dim=1)
    if len(set(placed)) == 1:
        prepared = _center(_fit(channels, placed[0]), spec.size)
    else:
        each = zip(channels, placed, strict=True)
        prepared = torch.cat([_center(_fit(one[None], place), spec.size) for one, place in each])
    # The clamp takes away what interpolation overshoots by rounding.
    return prepared.clamp(0.0, 1.0)


def _slices_on_cpu(
    hu: NDArray[np.float32], spec: InputSpec, placed: Sequence[Placement]
) -> torch.Tensor:
    """Do the same plane by plane, without more than one of them in memory beside the result."""
    shape = (len(hu), len(spec.windows), spec.size, spec.size)
    made = np.zeros(shape, dtype=np.float32)
    for one, place, channels in zip(hu, placed, made, strict=True):
        top, left, bottom, right = place.box
        part = np.asarray(one[top:bottom, left:right], dtype=np.float32)
        inner = _inner(place, spec.size)
        for window, channel in zip(spec.windows, channels, strict=True):
            _scale(part, channel[inner], _greys_of(window))
    return torch.from_numpy(made).clamp_(0.0, 1.0)


def _scale(part: NDArray[np.float32], out: NDArray[np.float32], greys: Greys) -> None:
    if part.shape == out.shape:
        greys(part, out)
    else:
        scale_plane(part, out, greys)


def _greys_of(window: Window) -> Greys:
    """Return what applies a window, in place where it is a straight one."""
    ramp = window.ramp
    if ramp is None:

        def by_function(values: NDArray[np.float32], out: NDArray[np.float32]) -> None:
            torch.from_numpy(out).copy_(window.apply(torch.from_numpy(values)))

        return by_function
    return _straight(*ramp)


def _straight(foot: float, length: float) -> Greys:
    def greys(values: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        made = torch.from_numpy(out)
        torch.sub(torch.from_numpy(values), foot, out=made)
        made.div_(length).clamp_(0.0, 1.0)

    return greys


def _inner(place: Placement, size: int) -> tuple[slice, slice]:
    """Return where in the input the part lies; see `_center`."""
    rows, columns = place.fitted
    top, left = (size - rows) // 2, (size - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def _film_on_cpu(
    values: NDArray[np.float32],
    placed: Placement,
    full_range: tuple[float, float] | None,
    turned: bool,
) -> torch.Tensor:
    """Do what `_film` does without a copy of the whole picture."""
    values = np.asarray(values, dtype=np.float32)
    top, left, bottom, right = placed.box
    out = np.empty(placed.fitted, dtype=np.float32)
    if full_range is not None:
        to_greys, highest = _straight(full_range[0], full_range[1] - full_range[0]), 1.0
    else:
        lowest = float(values.min())
        highest = float(np.float32(values.max()) - np.float32(lowest)) if turned else 0.0
        to_greys = _from(lowest)

    def turn(part: NDArray[np.float32], made: NDArray[np.float32]) -> None:
        to_greys(part, made)
        np.subtract(np.float32(highest), made, out=made)

    _scale(values[top:bottom, left:right], out, turn if turned else to_greys)
    return torch.from_numpy(out)[None, None]


def _from(lowest: float) -> Greys:
    def greys(values: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        np.subtract(values, np.float32(lowest), out=out)

    return greys


def _film(
    values: NDArray[np.float32],
    placed: Placement,
    full_range: tuple[float, float] | None,
    turned: bool,
    device: torch.device,
) -> torch.Tensor:
    """Return the part of a film that is shown, scaled, with its greys above 0."""
    picture = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
    # An offset is removed before anything is rounded: a MONOCHROME1 image and its MONOCHROME2 twin
    # differ by one after inversion, and must not differ in the last bit of the result.
    if full_range is None:
        picture = picture - picture.amin()
    else:
        low, high = full_range
        picture = ((picture - low) / (high - low)).clamp(0.0, 1.0)
    if turned:
        picture = (1.0 if full_range is not None else picture.amax()) - picture
    return _fit(picture[None, None], placed)


def _central(rows: int, columns: int) -> Box:
    """Return the central square; of an odd rest the smaller part is before it."""
    side = min(rows, columns)
    top, left = rows // 2 - side // 2, columns // 2 - side // 2
    return top, left, top + side, left + side


def _fit(pictures: torch.Tensor, placement: Placement) -> torch.Tensor:
    """Cut (n, channels, rows, columns) and scale the part to the size that it has in the input."""
    top, left, bottom, right = placement.box
    return fitted(pictures[..., top:bottom, left:right], placement.fitted)


def _center(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Pad (n, channels, rows, columns) with zeros to `size`, the odd line going after."""
    down, right = size - pictures.shape[-2], size - pictures.shape[-1]
    if not (down or right):
        return pictures
    return F.pad(pictures, (right // 2, right - right // 2, down // 2, down - down // 2))


def _percentiles(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lower and upper tail by nearest rank; symmetric, so that a negative agrees."""
    rank = math.floor(_TAIL * (picture.numel() - 1))
    if picture.device.type == "cpu":
        # The two values are found without all others being put in order.
        ranks = (rank, picture.numel() - 1 - rank)
        found = torch.from_numpy(np.partition(picture.numpy(), ranks, axis=None))
        return found[ranks[0]], found[ranks[1]]
    ordered = picture.flatten().sort().values
    return ordered[rank], ordered[-1 - rank]
