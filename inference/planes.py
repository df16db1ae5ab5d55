"""Pictures and slices as MONAI's transforms make them: the steps of `plane_spec` on tensors.

Everything here has rows and columns as the source has them. Where a network wants them the other
way round, `forward` turns its input, and its maps back; every step is the same either way.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from . import intensity
from .input_spec import InputSpec
from .placement import Placement
from .plane_spec import Fitting, FittingKind


def place_plane(rows: int, columns: int, spec: InputSpec) -> Placement:
    """Return which part of a picture is shown and where in the input."""
    assert spec.plane is not None, "of a specification by steps"
    if spec.plane.fitting != "center":
        return Placement((rows, columns), (0, 0, rows, columns), spec.size, "stretch")
    (top, bottom), (left, right) = (_middle(side, spec.size) for side in (rows, columns))
    return Placement((rows, columns), (top, left, bottom, right), spec.size, "none")


def prepare_planes(
    values: NDArray[np.float32], spec: InputSpec, device: torch.device
) -> torch.Tensor:
    """Make the input of a network by the steps of its specification.

    Parameters
    ----------
    values : ndarray of float32, (pictures, rows, columns)
        Hounsfield units, or the values of a radiograph with bone high.
    spec : InputSpec
        With a plane.
    device : torch.device
        Where to compute and leave the result.

    Returns
    -------
    Tensor of float32, (pictures, channels, size, size)
        The same in every channel.
    """
    assert spec.plane is not None, "of a specification by steps"
    pictures = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
    _, rows, columns = values.shape
    place = place_plane(rows, columns, spec)
    prepared = []
    for picture in pictures:  # statistics are those of one picture
        for step in spec.plane.steps:
            if isinstance(step, Fitting):
                picture = _fitted(picture, step.kind, place)
            else:
                picture = intensity.apply(picture, (step,))
        prepared.append(picture)
    return torch.stack(prepared)[:, None].repeat(1, spec.copies, 1, 1)


def _middle(side: int, wanted: int) -> tuple[int, int]:
    """Return the first and the last but one of what is kept; of an odd rest less is before it."""
    kept = min(side, wanted)
    first = side // 2 - wanted // 2 if side > wanted else 0
    return first, first + kept


def _fitted(picture: torch.Tensor, kind: FittingKind, place: Placement) -> torch.Tensor:
    if kind == "center":
        top, left, bottom, right = place.box
        down, across = place.inside
        square = picture.new_zeros((place.size, place.size))
        square[down, across] = picture[top:bottom, left:right]
        return square
    sides = (place.size, place.size)
    if kind == "area":
        return F.interpolate(picture[None, None], size=sides, mode="area")[0, 0]
    there = F.interpolate(picture[None, None], size=sides, mode="bilinear", align_corners=False)
    return there[0, 0]
