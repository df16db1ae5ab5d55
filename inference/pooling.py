"""How the probabilities of slices become the probability of a series. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

# Slices that are smoothed at once; a series of a head has fewer.
_TOGETHER = 128


@dataclass(frozen=True, slots=True)
class SeriesPooling:
    """Smooth over neighbours, then take the maximum.

    A plain maximum alarms on a normal head, because one slice of skull base in thirty scores high;
    a real bleed shows on neighbouring slices too. Distances are in millimetres, so that thin and
    thick slices are treated alike.

    Attributes
    ----------
    reach_mm : float
        Distance at which a neighbour no longer counts; the weight falls linearly from 1 to 0.
        0 is the plain maximum.
    key_slices : int
        How many slices at most are shown for a finding.
    """

    reach_mm: float = 10.0
    key_slices: int = 3

    def __post_init__(self) -> None:
        if not 0.0 <= self.reach_mm <= 100.0:
            raise ValueError(f"reach_mm is {self.reach_mm}, outside 0 to 100")
        if not 1 <= self.key_slices <= 20:
            raise ValueError(f"key_slices is {self.key_slices}, outside 1 to 20")

    def smooth(
        self, probabilities: NDArray[np.float64], positions_mm: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the weighted mean around each slice.

        Parameters
        ----------
        probabilities : ndarray, (slices, labels)
            0 to 1.
        positions_mm : ndarray, (slices,)
            Position of each slice along the normal, in any order.

        Returns
        -------
        ndarray, (slices, labels)
            0 to 1.
        """
        if self.reach_mm == 0.0:
            return probabilities
        smoothed = np.empty_like(probabilities)
        # Some slices at a time: of thousands the distances of all from all are hundreds of MB.
        for start in range(0, len(smoothed), _TOGETHER):
            rows = slice(start, start + _TOGETHER)
            distance = np.abs(positions_mm[rows, None] - positions_mm[None, :])
            weights = np.clip(1.0 - distance / self.reach_mm, 0.0, None)
            smoothed[rows] = weights @ probabilities / weights.sum(axis=1, keepdims=True)
        return np.clip(smoothed, 0.0, 1.0)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> SeriesPooling:
        """Build from the JSON form; ValueError if a key is unknown or a value impossible."""
        unknown = raw.keys() - {"reach_mm", "key_slices"}
        if unknown:
            raise ValueError(f"unknown keys in pooling: {', '.join(sorted(unknown))}")
        return cls(
            reach_mm=float(str(raw.get("reach_mm", 10.0))),
            key_slices=int(str(raw.get("key_slices", 3))),
        )
