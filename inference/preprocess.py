"""The one way from modality values to the tensor that a network sees, in training and in service.

Both functions run where they are told to: values go to the device as they are and every step
happens there. A picture is scaled to fit the square with its aspect ratio kept and centred on
black, because squeezing a radiograph changes the angles and ratios that a reader learns.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from .input_spec import InputSpec
from .polarity import looks_negative

__all__ = ["InputSpec", "picture_in_square", "prepare_ct", "prepare_radiograph"]

# Share of the pixels, at either end, that may be burned-in letters, markers or dead: they set
# neither black nor white.
_TAIL = 0.005


def prepare_radiograph(
    values: NDArray[np.float32], spec: InputSpec, device: torch.device
) -> torch.Tensor:
    """Make the input of a radiograph reader.

    Intensity is spread from the 0.5th to the 99.5th percentile of the resized picture, so that
    neither the exposure nor the bit depth nor an offset of the values matters.

    Parameters
    ----------
    values : ndarray of float32, (rows, columns)
        Modality values with tissue and bone high, as in MONOCHROME2.
    spec : InputSpec
        Of kind ``radiograph``.
    device : torch.device
        Where to compute and leave the result.

    Returns
    -------
    Tensor of float32, (1, 1, size, size)
        0 to 1; all zero for a picture without contrast.
    """
    picture = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
    # An offset is removed before anything is rounded: a MONOCHROME1 image and its MONOCHROME2 twin
    # differ by one after inversion, and must not differ in the last bit of the result.
    picture = picture - picture.amin()
    if spec.polarity == "chest" and looks_negative(values):
        picture = picture.amax() - picture
    fitted = _fit(picture[None, None], spec.size)
    low, high = _percentiles(fitted)
    spread = (fitted - low) / (high - low) if high > low else torch.zeros_like(fitted)
    return _center(spread.clamp(0.0, 1.0), spec.size)


def prepare_ct(hu: NDArray[np.float32], spec: InputSpec, device: torch.device) -> torch.Tensor:
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

    Returns
    -------
    Tensor of float32, (slices, windows, size, size)
        0 to 1.
    """
    slices = torch.from_numpy(np.ascontiguousarray(hu, dtype=np.float32)).to(device)
    channels = torch.stack([window.apply(slices) for window in spec.windows], dim=1)
    # The clamp takes away what interpolation overshoots by rounding.
    return _center(_fit(channels, spec.size).clamp(0.0, 1.0), spec.size)


def picture_in_square(shape: tuple[int, int], size: int) -> tuple[slice, slice]:
    """Return which rows and columns of the input are the picture; the others are padding.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the source.
    size : int
        Rows and columns of the (square) input.
    """
    rows, columns = _fitted(shape, size)
    top, left = (size - rows) // 2, (size - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def _fitted(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the rows and columns of a picture whose longer side is scaled to `size`."""
    scale = size / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _fit(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Scale (n, channels, rows, columns) so that the longer side is `size`."""
    rows, columns = pictures.shape[-2:]
    target = _fitted((rows, columns), size)
    if target == (rows, columns):
        return pictures
    return F.interpolate(
        pictures, size=target, mode="bilinear", antialias=True, align_corners=False
    )


def _center(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Pad (n, channels, rows, columns) with zeros to `size`, the odd line going after."""
    down, right = size - pictures.shape[-2], size - pictures.shape[-1]
    if not (down or right):
        return pictures
    return F.pad(pictures, (right // 2, right - right // 2, down // 2, down - down // 2))


def _percentiles(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lower and upper tail by nearest rank; symmetric, so that a negative agrees."""
    ordered = picture.flatten().sort().values
    rank = math.floor(_TAIL * (ordered.numel() - 1))
    return ordered[rank], ordered[-1 - rank]
