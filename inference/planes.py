"""Pictures and slices as MONAI's transforms make them: the steps of `plane_spec`.

Everything here has rows and columns as the source has them. Where a network wants them the other
way round, `forward` turns its input, and its maps back; every step is the same either way. On a CPU
it is NumPy; on another device `torch_planes` takes the same steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import plane_intensity
from .area_means import area_means
from .bilinear import bilinear
from .engines.engine import Rows
from .input_spec import InputSpec
from .placement import Placement
from .plane_spec import Fitting, FittingKind

if TYPE_CHECKING:
    import torch


def place_plane(rows: int, columns: int, spec: InputSpec) -> Placement:
    """Return which part of a picture is shown and where in the input."""
    assert spec.plane is not None, "of a specification by steps"
    if spec.plane.fitting != "center":
        return Placement((rows, columns), (0, 0, rows, columns), spec.size, "stretch")
    (top, bottom), (left, right) = (_middle(side, spec.size) for side in (rows, columns))
    return Placement((rows, columns), (top, left, bottom, right), spec.size, "none")


def prepare_planes(
    values: NDArray[np.float32],
    spec: InputSpec,
    device: torch.device | str = "cpu",
    out: NDArray[np.float32] | None = None,
) -> Rows:
    """Make the input of a network by the steps of its specification.

    Parameters
    ----------
    values : ndarray of float32, (pictures, rows, columns)
        Hounsfield units, or the values of a radiograph with bone high.
    spec : InputSpec
        With a plane.
    device : torch.device or str
        Where to compute and leave the result.
    out : ndarray of float32, (pictures, channels, size, size), optional
        Where to make it, on the CPU alone.

    Returns
    -------
    ndarray of float32, (pictures, channels, size, size); a Tensor on another device than the CPU
        The same in every channel.
    """
    assert spec.plane is not None, "of a specification by steps"
    _, rows, columns = values.shape
    place = place_plane(rows, columns, spec)
    if str(device).partition(":")[0] != "cpu":
        from .torch_planes import planes_on

        return planes_on(values, spec, place, device)
    made = out_or_new(out, (len(values), spec.copies, spec.size, spec.size))
    for channels, one in zip(made, values, strict=True):  # statistics are those of one picture
        picture = np.asarray(one, dtype=np.float32)
        for step in spec.plane.steps:
            if isinstance(step, Fitting):
                picture = _fitted(picture, step.kind, place)
            else:
                picture = plane_intensity.apply(picture, step)
        channels[:] = picture
    return made


def out_or_new(
    out: NDArray[np.float32] | None, shape: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """Return where an input is made: `out`, or memory of its own."""
    return np.empty(shape, dtype=np.float32) if out is None else out


def _middle(side: int, wanted: int) -> tuple[int, int]:
    """Return the first and the last but one of what is kept; of an odd rest less is before it."""
    kept = min(side, wanted)
    first = side // 2 - wanted // 2 if side > wanted else 0
    return first, first + kept


def _fitted(
    picture: NDArray[np.float32], kind: FittingKind, place: Placement
) -> NDArray[np.float32]:
    sides = (place.size, place.size)
    if kind == "center":
        top, left, bottom, right = place.box
        square = np.zeros(sides, dtype=np.float32)
        square[place.inside] = picture[top:bottom, left:right]
        return square
    return area_means(picture, sides) if kind == "area" else bilinear(picture, sides)
