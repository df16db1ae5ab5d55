"""What training learns from: prepared inputs with labels, held in memory as bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Sample:
    """One image as the network sees it.

    Attributes
    ----------
    image : numpy.ndarray of uint8, shape (channels, size, size)
        The prepared input times 255.
    labels : tuple of float
        0 or 1 for each label of the recipe.
    group : str
        Patient or phantom: never on both sides of a split.
    position : float
        Along the normal of its series in mm; 0 for a radiograph.
    """

    image: NDArray[np.uint8]
    labels: tuple[float, ...]
    group: str
    position: float = 0.0


@dataclass(frozen=True, slots=True)
class Samples:
    """Many samples as arrays.

    Attributes
    ----------
    images : torch.Tensor of uint8, shape (n, channels, size, size)
    labels : torch.Tensor of float32, shape (n, labels)
    groups : numpy.ndarray of str, shape (n,)
    positions : numpy.ndarray of float64, shape (n,)
    """

    images: torch.Tensor
    labels: torch.Tensor
    groups: NDArray[np.str_]
    positions: NDArray[np.float64]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Self:
        """Stack `samples`.

        Raises
        ------
        ValueError
            If there are none.
        """
        kept = list(samples)
        if not kept:
            raise ValueError("there is nothing to learn from: no samples")
        return cls(
            images=torch.from_numpy(np.stack([sample.image for sample in kept])),
            labels=torch.tensor([sample.labels for sample in kept], dtype=torch.float32),
            groups=np.array([sample.group for sample in kept]),
            positions=np.array([sample.position for sample in kept], dtype=np.float64),
        )

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.images)

    def where(self, chosen: NDArray[np.bool_]) -> Samples:
        """Return the samples for which `chosen` (shape (n,)) is true."""
        mask = torch.from_numpy(chosen)
        return Samples(
            self.images[mask], self.labels[mask], self.groups[chosen], self.positions[chosen]
        )

    def split(self, share: float, seed: int) -> tuple[Samples, Samples]:
        """Return (training, validation) with about `share` of the groups in validation.

        Raises
        ------
        ValueError
            If there are fewer than two groups: nothing could be held out.
        """
        groups = np.unique(self.groups)
        if len(groups) < 2:
            raise ValueError("a split needs at least two patients")
        order = np.random.default_rng([seed, 11]).permutation(groups)
        held_out = order[: min(len(groups) - 1, max(1, round(share * len(groups))))]
        validation = np.isin(self.groups, held_out)
        return self.where(~validation), self.where(validation)


def as_bytes(prepared: torch.Tensor) -> NDArray[np.uint8]:
    """Return a prepared input (0 to 1, any shape) as bytes."""
    rounded = (prepared * 255).round().to(torch.uint8)
    return np.asarray(rounded.cpu().numpy(), dtype=np.uint8)
