"""The one way from modality values to the input that a network sees, in training and in service.

On a CPU it is NumPy: what is made here is served as it is, and training learns from the same
numbers as tensors (`tensors`). Where the device is another one the values go there as they are and
every step happens there (`torch_preprocess`); torch is imported for that alone. A picture, or the
part of it that the reader is shown, is scaled to fit the square with its aspect ratio kept and
centred on black, because squeezing a radiograph changes the angles and ratios that a reader learns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .box_above import box_above
from .engines.engine import Rows
from .heads import head_boxes
from .input_spec import InputSpec
from .lungs import lung_box
from .placement import Box, Placement
from .planes import out_or_new, place_plane, prepare_planes
from .polarity import looks_negative
from .resize import Greys, scale_plane
from .stored_plane import Piece, Plane, ends_of, in_pieces, whole
from .windows import Window

if TYPE_CHECKING:
    import torch

__all__ = [
    "InputSpec",
    "Placement",
    "place_ct",
    "place_radiograph",
    "prepare_ct",
    "prepare_radiograph",
]

# Slices as one array, (slices, rows, columns), or each as it came.
Planes = NDArray[np.float32] | Sequence[Plane]

# Share of the pixels, at either end, that may be burned-in letters, markers or dead: they set
# neither black nor white.
TAIL = 0.005


def place_radiograph(plane: Plane, spec: InputSpec) -> Placement:
    """Return which part of a radiograph, (rows, columns), is shown and where in the input.

    Where a reader of lungs is to see them and none are found, it sees the whole picture.
    """
    rows, columns = plane.shape
    if spec.plane is not None:
        return place_plane(rows, columns, spec)
    if spec.crop == "square":
        return Placement((rows, columns), _central(rows, columns), spec.size)
    if spec.crop == "lungs":
        values = whole(plane)
        bone_high = -values if spec.polarity == "chest" and looks_negative(values) else values
        if (box := lung_box(bone_high)) is not None:
            return Placement((rows, columns), box, spec.size)
    return Placement.whole((rows, columns), spec.size)


def place_ct(
    hu: Planes, spec: InputSpec, device: torch.device | str = "cpu"
) -> tuple[Placement, ...]:
    """Return which part of each slice, (rows, columns), is shown and where in the input."""
    count, (rows, columns) = len(hu), hu.shape[1:] if isinstance(hu, np.ndarray) else hu[0].shape
    if spec.plane is not None:
        return (place_plane(rows, columns, spec),) * count
    if spec.crop == "none":
        return (Placement.whole((rows, columns), spec.size),) * count
    if not on_cpu(device):
        from . import torch_preprocess

        boxes = torch_preprocess.head_boxes(stacked(hu), device)
    else:
        boxes = head_boxes(stacked(hu))
    return tuple(Placement((rows, columns), box, spec.size) for box in boxes)


def prepare_radiograph(
    plane: Plane,
    spec: InputSpec,
    device: torch.device | str = "cpu",
    placement: Placement | None = None,
    full_range: tuple[float, float] | None = None,
) -> Rows:
    """Make the input of a radiograph reader.

    Intensity is spread from the 0.5th to the 99.5th percentile of the resized picture, so that
    neither the exposure nor the bit depth nor an offset of the values matters; or, where the
    specification says so, over the full range that the values could have.

    Parameters
    ----------
    plane : ndarray of float32, or StoredPlane, (rows, columns)
        Modality values with tissue and bone high, as in MONOCHROME2.
    spec : InputSpec
        Of kind ``radiograph``.
    device : torch.device or str
        Where to compute and leave the result.
    placement : Placement, optional
        What to show; `place_radiograph` if left out.
    full_range : tuple of float, optional
        Lowest and highest value that a pixel could have; needed for the intensity ``full_range``.

    Returns
    -------
    ndarray of float32, (1, channels, size, size); a Tensor on another device than the CPU
        Within the value range, 0 to 1 by default; the same in every channel, and of one
        value alone for a picture without contrast.

    Raises
    ------
    ValueError
        If the full range is needed and not given.
    """
    negative = spec.polarity == "chest" and looks_negative(whole(plane))
    if spec.plane is not None:
        values = whole(plane)
        seen = values.min() + values.max() - values if negative else values
        return prepare_planes(seen[None], spec, device)
    by_bits = spec.intensity == "full_range"
    if by_bits and (full_range is None or not full_range[0] < full_range[1]):
        raise ValueError("the pixels have no full range")
    placed = placement or place_radiograph(plane, spec)
    known = full_range if by_bits else None
    if not on_cpu(device):
        from . import torch_preprocess

        return torch_preprocess.film(whole(plane), spec, placed, known, negative, device)
    spread = _film(plane, placed, known, negative)
    if not by_bits:
        low, high = _percentiles(spread)
        spread = (spread - low) / (high - low) if high > low else np.zeros_like(spread)
    made = np.zeros((1, spec.copies, spec.size, spec.size), dtype=np.float32)
    made[(..., *placed.inside)] = np.clip(spread, 0.0, 1.0)
    black, white = spec.value_range
    if (black, white) != (0.0, 1.0):
        made = made * np.float32(white - black) + np.float32(black)
    return made


def prepare_ct(
    hu: Planes,
    spec: InputSpec,
    device: torch.device | str = "cpu",
    placements: Sequence[Placement] | None = None,
    out: NDArray[np.float32] | None = None,
) -> Rows:
    """Make the input of a reader of CT slices: a channel for each window.

    Windows are applied before resizing: bone of 1,500 HU would otherwise spread over the
    neighbouring millimetre, which is where a thin subdural lies.

    Parameters
    ----------
    hu : ndarray of float32, (slices, rows, columns), or sequence of StoredPlane
        Hounsfield units.
    spec : InputSpec
        Of kind ``ct_slices``.
    device : torch.device or str
        Where to compute and leave the result.
    placements : sequence of Placement, optional
        What to show of each slice; `place_ct` if left out.
    out : ndarray of float32, (slices, windows, size, size), optional
        Where to make it, on the CPU alone: a slice is at its fastest while the processor has it
        at hand, so whoever decodes one makes its rows before the next one.

    Returns
    -------
    ndarray of float32, (slices, windows, size, size); a Tensor on another device than the CPU
        0 to 1.
    """
    if spec.plane is not None:
        return prepare_planes(stacked(hu), spec, device, out)
    placed = tuple(placements or place_ct(hu, spec, device))
    if not on_cpu(device):
        from . import torch_preprocess

        return torch_preprocess.slices(stacked(hu), spec, placed, device)
    # Plane by plane, without more than one of them in memory beside the result.
    made = out_or_new(out, (len(hu), len(spec.windows), spec.size, spec.size))
    for one, place, channels in zip(hu, placed, made, strict=True):
        top, left, bottom, right = place.box
        cells, piece = in_pieces(one)
        part = cells[top:bottom, left:right]
        shown = _shown(part, piece, spec.windows)
        if place.fitted != (spec.size, spec.size):
            channels[:] = 0.0
        for window, channel in zip(spec.windows, channels, strict=True):
            _windowed(part, piece, channel[place.inside], window, shown)
    return made


def on_cpu(device: torch.device | str) -> bool:
    """Tell whether a device is the CPU, by the name that torch gives it."""
    return str(device).partition(":")[0] == "cpu"


def stacked(hu: Planes) -> NDArray[np.float32]:
    """Return slices as one array of float32, (slices, rows, columns)."""
    if isinstance(hu, np.ndarray):
        return np.asarray(hu, dtype=np.float32)
    return np.stack([whole(one) for one in hu])


def _scale(
    part: NDArray[Any],
    out: NDArray[np.float32],
    greys: Greys,
    shown: Box | None = None,
) -> tuple[slice, slice]:
    if part.shape != out.shape:
        return scale_plane(part, out, greys, shown)
    greys(part, out)
    return slice(0, out.shape[0]), slice(0, out.shape[1])


# A window so far from 0, in its widths, that a mean of its values is rounded too much to show it.
_FAR = 32.0


def _windowed(
    part: NDArray[Any],
    piece: Piece,
    out: NDArray[np.float32],
    window: Window,
    shown: Box | None,
) -> None:
    """Scale a part under a window; outside of what is `shown` it is black.

    A straight window cuts off first, as it must, and is spread over 0 to 1 afterwards, where there
    are fewer pixels: what lies between is a mean of what it is given, and so commutes.
    """
    if (ramp := _near(window)) is None:
        _scale(part, out, _greys_of(window, piece))
        made = out
    else:
        foot, length = (np.float32(one) for one in ramp)

        def cut_off(cells: NDArray[Any], made: NDArray[np.float32]) -> None:
            np.clip(piece(cells, made), foot, foot + length, out=made)

        made = _lit(out, *_scale(part, out, cut_off, shown))
        np.subtract(made, foot, out=made)
        np.divide(made, length, out=made)
    # Takes away what interpolation overshoots by rounding.
    np.clip(made, 0.0, 1.0, out=made)


def _lit(out: NDArray[np.float32], rows: slice, columns: slice) -> NDArray[np.float32]:
    """Return a part of a channel, and blacken what is around it."""
    lit = out[rows]
    for edge in (
        out[: rows.start],
        out[rows.stop :],
        lit[:, : columns.start],
        lit[:, columns.stop :],
    ):
        edge[:] = 0.0
    return lit[:, columns]


def _near(window: Window) -> tuple[float, float] | None:
    """Return the foot and the length of a straight window that can be spread afterwards."""
    ramp = window.ramp
    return None if ramp is None or abs(ramp[0]) > _FAR * ramp[1] else ramp


def _shown(part: NDArray[Any], piece: Piece, windows: Sequence[Window]) -> Box | None:
    """Return the box of what is not black under all of straight windows; None if it is unknown.

    Around a head there is air: a third of a slice, or more than half of it.
    """
    ramps = [_near(window) for window in windows]
    feet = [np.float32(ramp[0]) for ramp in ramps if ramp is not None]
    return box_above(part, piece, min(feet)) if feet and len(feet) == len(ramps) else None


def _greys_of(window: Window, piece: Piece) -> Greys:
    """Return what applies a window, in place where it is a straight one."""
    ramp = window.ramp
    if ramp is None:

        def by_function(cells: NDArray[Any], out: NDArray[np.float32]) -> None:
            with np.errstate(over="ignore"):  # a step is a ramp that is steeper than numbers go
                out[...] = window.apply(piece(cells, out))

        return by_function
    return _straight(*ramp, piece)


def _straight(foot: float, length: float, piece: Piece) -> Greys:
    lowest, reach = np.float32(foot), np.float32(length)

    def greys(cells: NDArray[Any], out: NDArray[np.float32]) -> None:
        np.subtract(piece(cells, out), lowest, out=out)
        np.divide(out, reach, out=out)
        np.clip(out, 0.0, 1.0, out=out)

    return greys


def _film(
    plane: Plane,
    placed: Placement,
    full_range: tuple[float, float] | None,
    turned: bool,
) -> NDArray[np.float32]:
    """Return the part of a film that is shown, scaled, with its greys above 0.

    An offset is removed before anything is rounded: a MONOCHROME1 image and its MONOCHROME2 twin
    differ by one after inversion, and must not differ in the last bit of the result. The picture is
    never copied as a whole.
    """
    cells, piece = in_pieces(plane)
    top, left, bottom, right = placed.box
    out = np.empty(placed.fitted, dtype=np.float32)
    if full_range is not None:
        to_greys, highest = _straight(full_range[0], full_range[1] - full_range[0], piece), 1.0
    else:
        lowest, most = ends_of(plane)
        highest = float(np.float32(most) - np.float32(lowest)) if turned else 0.0
        to_greys = _from(lowest, piece)

    def turn(part: NDArray[Any], made: NDArray[np.float32]) -> None:
        to_greys(part, made)
        np.subtract(np.float32(highest), made, out=made)

    _scale(cells[top:bottom, left:right], out, turn if turned else to_greys)
    return out


def _from(lowest: float, piece: Piece) -> Greys:
    def greys(cells: NDArray[Any], out: NDArray[np.float32]) -> None:
        np.subtract(piece(cells, out), np.float32(lowest), out=out)

    return greys


def _central(rows: int, columns: int) -> Box:
    """Return the central square; of an odd rest the smaller part is before it."""
    side = min(rows, columns)
    top, left = rows // 2 - side // 2, columns // 2 - side // 2
    return top, left, top + side, left + side


def _percentiles(picture: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """Return the lower and upper tail by nearest rank; symmetric, so that a negative agrees."""
    rank = math.floor(TAIL * (picture.size - 1))
    # Each is found without all others being put in order, and alone: NumPy looks for one rank with
    # vectors, for two at once it is five times slower.
    low, high = rank, picture.size - 1 - rank
    lower = np.partition(picture, low, axis=None)[low]
    return lower, np.partition(picture, high, axis=None)[high]
