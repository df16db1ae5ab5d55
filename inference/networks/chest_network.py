"""A chest reader that also looks at what needs no training: whether both lungs are as dark.

A large pneumothorax makes its side darker, or the lung that is left whiter. A network that has had
few real films to learn from knows that less well than a plain comparison does, so the comparison
stands beside it and both are added up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.networks.nets.efficientnet import EfficientNetBN
from torch import nn

from ..lungs import Outline

# Where the lungs stand in the input of a reader that is shown them (`inference.lungs`), as shares
# of its width and height: about the mean of many films.
_RIGHT = Outline(left=False, medial=0.43, width=0.29, top=0.12, bottom=0.84)
_LEFT = Outline(left=True, medial=0.57, width=0.29, top=0.12, bottom=0.84)


class ChestNetwork(nn.Module):
    """EfficientNet-B0 with one output, plus the weighed difference of both lungs.

    Parameters
    ----------
    unevenness : float
        Log-odds that a difference of the whole range between both lungs adds.
    momentum : float
        Of batch normalisation.
    """

    def __init__(self, unevenness: float = 0.0, momentum: float = 0.1) -> None:
        super().__init__()
        norm: Any = ("batch", {"eps": 1e-3, "momentum": momentum})
        self.trunk = EfficientNetBN(
            "efficientnet-b0",
            pretrained=False,
            spatial_dims=2,
            in_channels=1,
            num_classes=1,
            norm=norm,
        )
        self.unevenness = unevenness

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, 1), of images 0 to 1, (n, 1, size, size), that show the lungs."""
        logits: torch.Tensor = self.trunk(images)
        if self.unevenness == 0.0:
            return logits
        return logits + self.unevenness * difference(images)


def difference(images: torch.Tensor) -> torch.Tensor:
    """Return how far the mean intensities of both lungs are apart, (n, 1).

    Parameters
    ----------
    images : Tensor of float32, (n, 1, rows, columns)
    """
    rows, columns = (int(length) for length in images.shape[-2:])
    y = ((np.arange(rows) + 0.5) / rows).astype(np.float32)[:, None]
    x = ((np.arange(columns) + 0.5) / columns).astype(np.float32)[None, :]
    means = []
    for outline in (_RIGHT, _LEFT):
        inside = torch.from_numpy(outline.inside(x, y)).to(images)
        means.append((images * inside).sum(dim=(2, 3)) / inside.sum())
    return (means[0] - means[1]).abs()
