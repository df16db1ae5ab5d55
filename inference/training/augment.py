"""Random changes of a batch of prepared inputs: what scanners and positioning vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention


class _Uniform(Protocol):
    def __call__(self, low: float, high: float) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is changed beside contrast, sharpness, noise, place, angle, scale and side.

    Attributes
    ----------
    upside_down : float
        How often (0 to 1) the picture is turned upside down.
    crop : float
        Up to which share of its sides the picture is cropped, anywhere; 0 crops nothing.
    """

    upside_down: float = 0.0
    crop: float = 0.0


_PLAIN = Augmentation()


def augment(
    images: torch.Tensor,
    generator: torch.Generator,
    members: torch.Tensor | None = None,
    how: Augmentation = _PLAIN,
) -> torch.Tensor:
    """Return `images` mirrored, moved, turned, scaled, blurred, and with other contrast.

    Parameters
    ----------
    images : torch.Tensor of float32, shape (n, channels, size, size)
        0 to 1.
    generator : torch.Generator
        On the CPU; the same state gives the same changes on any device.
    members : torch.Tensor of int64, shape (n,), optional
        Images of the same number are changed alike: what then still differs between twins is the
        finding. Left out, each image is changed on its own.
    how : Augmentation, optional

    Returns
    -------
    torch.Tensor
        Of the same shape, 0 to 1.
    """
    device = images.device
    members = torch.arange(len(images)) if members is None else members
    count = int(members.max()) + 1

    def uniform(low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(count, generator=generator)[members]
        return (low + (high - low) * drawn).to(device)

    grid = F.affine_grid(
        _movement(uniform, how).to(images.dtype), list(images.shape), align_corners=False
    )
    moved = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    # Each picture is blended with a blurred copy: sharp kernels, soft kernels, thick slices.
    share = uniform(-0.3, 0.9).clamp(0, 1)[:, None, None, None]
    moved = (1 - share) * moved + share * F.avg_pool2d(moved, 3, 1, 1)
    gain = uniform(0.9, 1.1)[:, None, None, None]
    offset = uniform(-0.05, 0.05)[:, None, None, None]
    gamma = uniform(0.85, 1.18)[:, None, None, None]
    shown = (moved * gain + offset * (moved > 0)).clamp(0, 1) ** gamma
    level = uniform(-0.02, 0.04).clamp(0, 1)[:, None, None, None]
    noise = torch.randn((count, *shown.shape[1:]), generator=generator)[members].to(device)
    return (shown + level * noise * (shown > 0)).clamp(0, 1)


def _movement(uniform: _Uniform, how: Augmentation) -> torch.Tensor:
    """Return random affine maps, shape (n, 2, 3)."""
    angle = uniform(-0.18, 0.18)
    scale = uniform(0.85, 1.15)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    first = torch.stack([cos * mirror, -sin, uniform(-0.1, 0.1)], dim=1)
    second = torch.stack([sin * mirror, cos, uniform(-0.1, 0.1)], dim=1)
    if how.upside_down:
        turned = torch.where(uniform(0, 1) < how.upside_down, -1.0, 1.0)[:, None]
        second = second * turned
    if how.crop:
        # A crop of a share of the sides, its centre as far from the middle as it can be.
        kept = 1 - uniform(0, how.crop)
        right, down = ((1 - kept) * uniform(-1, 1) for _ in range(2))
        first = first * kept[:, None] + _shift(right)
        second = second * kept[:, None] + _shift(down)
    return torch.stack([first, second], dim=1)


def _shift(by: torch.Tensor) -> torch.Tensor:
    zero = torch.zeros_like(by)
    return torch.stack([zero, zero, by], dim=1)
