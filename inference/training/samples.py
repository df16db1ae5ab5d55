"""What training learns from: prepared inputs with labels, in memory or as they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

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

    def batches(
        self, order: Iterable[NDArray[np.int64]]
    ) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Yield the images of each batch of rows; see `Inputs`."""
        for rows in order:
            yield rows, self.images[torch.from_numpy(rows)]


class Inputs(Protocol):
    """Gives prepared inputs, however it comes by them."""

    def batches(
        self, order: Iterable[NDArray[np.int64]]
    ) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Yield, for each batch of rows, those that are there and their inputs as bytes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some images of a data set: those to learn from, or to measure on.

    Attributes
    ----------
    inputs : Inputs
        Of the whole data set.
    rows : ndarray of int64, (n,)
        Which of its images these are; the other attributes are of these alone.
    labels : ndarray of uint8, (n, labels)
    groups : ndarray of int64, (n,)
        Who was imaged: figures are resampled by group.
    series : ndarray of int64, (n,)
    positions : ndarray of float64, (n,)
        Along the normal, in mm.
    twins : bool
        Whether images of a group differ by the finding alone, and are learnt from side by side.
    """

    inputs: Inputs
    rows: NDArray[np.int64]
    labels: NDArray[np.uint8]
    groups: NDArray[np.int64]
    series: NDArray[np.int64]
    positions: NDArray[np.float64]
    twins: bool = False

    @classmethod
    def of_samples(cls, samples: Samples) -> Self:
        """Return phantoms as a part of their own."""
        groups = np.unique(samples.groups, return_inverse=True)[1]
        labels = (samples.labels.numpy() > 0.5).astype(np.uint8)
        rows = np.arange(len(samples))
        return cls(samples, rows, labels, groups, groups, samples.positions, twins=True)

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.rows)

    def of(self, chosen: NDArray[np.int64]) -> Part:
        """Return those of these images, by their place among them."""
        return Part(
            self.inputs,
            self.rows[chosen],
            self.labels[chosen],
            self.groups[chosen],
            self.series[chosen],
            self.positions[chosen],
            self.twins,
        )

    def batches(
        self, order: Iterable[NDArray[np.int64]]
    ) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Yield batches by the places of images among these; see `Inputs`."""
        place = dict(zip(map(int, self.rows), range(len(self.rows)), strict=True))
        for rows, images in self.inputs.batches(self.rows[chosen] for chosen in order):
            yield np.array([place[int(row)] for row in rows], dtype=np.int64), images


def as_bytes(prepared: torch.Tensor) -> NDArray[np.uint8]:
    """Return a prepared input (0 to 1, any shape) as bytes."""
    rounded = (prepared * 255).round().to(torch.uint8)
    return np.asarray(rounded.cpu().numpy(), dtype=np.uint8)
