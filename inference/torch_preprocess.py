"""The steps of `preprocess` on a device of torch: values go there as they are.

What it makes is what `preprocess` makes, to 1e-6 of the range: the same steps in the same order,
with torch's own interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from .heads import box_of, greys, grid_of
from .input_spec import InputSpec
from .placement import Box, Placement
from .preprocess import TAIL


def head_boxes(hu: NDArray[np.float32], device: torch.device | str) -> list[Box]:
    """Return where the head is in slices, (slices, rows, columns); see `heads.head_boxes`."""
    rows, columns = (int(length) for length in hu.shape[-2:])
    grey = F.adaptive_avg_pool2d(greys(_there(hu, device))[:, None], grid_of(rows, columns))[:, 0]
    return [box_of(one, (rows, columns)) for one in grey.cpu().numpy()]


def slices(
    hu: NDArray[np.float32],
    spec: InputSpec,
    placed: Sequence[Placement],
    device: torch.device | str,
) -> torch.Tensor:
    """Return the input of a reader of CT slices, as of `prepare_ct`."""
    channels = torch.stack([window.apply(_there(hu, device)) for window in spec.windows], dim=1)
    if len(set(placed)) == 1:
        prepared = _center(_fit(channels, placed[0]), spec.size)
    else:
        each = zip(channels, placed, strict=True)
        prepared = torch.cat([_center(_fit(one[None], place), spec.size) for one, place in each])
    # The clamp takes away what interpolation overshoots by rounding.
    return prepared.clamp(0.0, 1.0)


def film(
    values: NDArray[np.float32],
    spec: InputSpec,
    placed: Placement,
    full_range: tuple[float, float] | None,
    turned: bool,
    device: torch.device | str,
) -> torch.Tensor:
    """Return the input of a reader of radiographs, as of `prepare_radiograph`.

    Parameters
    ----------
    full_range : tuple of float or None
        What becomes black and white; None are the tails of the values.
    turned : bool
        Whether the picture is a negative.
    """
    picture = _there(values, device)
    if full_range is None:
        picture = picture - picture.amin()
    else:
        low, high = full_range
        picture = ((picture - low) / (high - low)).clamp(0.0, 1.0)
    if turned:
        picture = (1.0 if full_range is not None else picture.amax()) - picture
    spread = _fit(picture[None, None], placed)
    if full_range is None:
        least, most = _percentiles(spread)
        spread = (spread - least) / (most - least) if most > least else torch.zeros_like(spread)
    centered = _center(spread.clamp(0.0, 1.0), spec.size)
    black, white = spec.value_range
    if (black, white) != (0.0, 1.0):
        centered = centered * (white - black) + black
    return centered.repeat(1, spec.copies, 1, 1)


def _there(values: NDArray[np.float32], device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


def _fit(pictures: torch.Tensor, placement: Placement) -> torch.Tensor:
    """Cut (n, channels, rows, columns) and scale the part to the size that it has in the input."""
    top, left, bottom, right = placement.box
    part = pictures[..., top:bottom, left:right]
    if part.shape[-2:] == placement.fitted:
        return part
    return F.interpolate(
        part, size=placement.fitted, mode="bilinear", antialias=True, align_corners=False
    )


def _center(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Pad (n, channels, rows, columns) with zeros to `size`, the odd line going after."""
    down, right = size - pictures.shape[-2], size - pictures.shape[-1]
    if not (down or right):
        return pictures
    return F.pad(pictures, (right // 2, right - right // 2, down // 2, down - down // 2))


def _percentiles(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rank = math.floor(TAIL * (picture.numel() - 1))
    ordered = picture.flatten().sort().values
    return ordered[rank], ordered[-1 - rank]
