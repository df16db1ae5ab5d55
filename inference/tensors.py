"""The inputs of `preprocess` as tensors, for training and for what compares networks of torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from . import preprocess
from .input_spec import InputSpec
from .placement import Placement
from .stored_plane import Plane


def prepare_ct(
    hu: preprocess.Planes,
    spec: InputSpec,
    device: torch.device,
    placements: Sequence[Placement] | None = None,
) -> torch.Tensor:
    """Return what `preprocess.prepare_ct` makes, as a tensor on `device`."""
    return torch.as_tensor(preprocess.prepare_ct(hu, spec, device, placements))


def prepare_radiograph(
    plane: Plane,
    spec: InputSpec,
    device: torch.device,
    placement: Placement | None = None,
    full_range: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Return what `preprocess.prepare_radiograph` makes, as a tensor on `device`."""
    return torch.as_tensor(
        preprocess.prepare_radiograph(plane, spec, device, placement, full_range)
    )
