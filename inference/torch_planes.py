"""The steps of `planes` on a device of torch."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from . import intensity
from .input_spec import InputSpec
from .placement import Placement
from .plane_spec import Fitting, FittingKind


def planes_on(
    values: NDArray[np.float32], spec: InputSpec, place: Placement, device: torch.device | str
) -> torch.Tensor:
    """Return the input of a network, as of `planes.prepare_planes`, on `device`."""
    assert spec.plane is not None, "of a specification by steps"
    pictures = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
    prepared = []
    for picture in pictures:  # statistics are those of one picture
        for step in spec.plane.steps:
            if isinstance(step, Fitting):
                picture = _fitted(picture, step.kind, place)
            else:
                picture = intensity.apply(picture, (step,))
        prepared.append(picture)
    return torch.stack(prepared)[:, None].repeat(1, spec.copies, 1, 1)


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
