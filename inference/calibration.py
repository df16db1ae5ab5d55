"""What is done to the probabilities of a network before anyone sees them. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Calibration:
    """Operating points: of each label the probability of the network that is to read as 0.5.

    Below it and above it the scale is stretched linearly, so that 0 stays 0 and 1 stays 1 and no
    two images change places. Networks that learned rare findings say 0.01 where they mean it.

    Attributes
    ----------
    operating_points : tuple of (float or None)
        In the order of the labels; None leaves a label as it is.
    """

    operating_points: tuple[float | None, ...]

    def __post_init__(self) -> None:
        for point in self.operating_points:
            if point is not None and not 0.0 < point < 1.0:
                raise ValueError(f"operating point {point} is not between 0 and 1")

    def apply(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated probabilities.

        Parameters
        ----------
        probabilities : ndarray of float32, (rows, labels, ...)
            0 to 1.

        Returns
        -------
        ndarray of float32, (rows, labels, ...)
            0 to 1; 0.5 at the operating point.
        """
        calibrated = probabilities.copy()
        for column, point in enumerate(self.operating_points):
            if point is not None:
                raw = probabilities[:, column].astype(np.float64)
                below, above = raw / (2.0 * point), 1.0 - (1.0 - raw) / (2.0 * (1.0 - point))
                calibrated[:, column] = np.where(raw < point, below, above)
        return calibrated

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"operating_points": list(self.operating_points)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], labels: int) -> Calibration:
        """Build from the JSON form, for so many labels.

        Raises
        ------
        ValueError
            If a key is unknown, a point impossible, or there is not one for each label.
        KeyError
            If ``operating_points`` is missing.
        """
        if unknown := raw.keys() - {"operating_points"}:
            raise ValueError(f"unknown keys in calibration: {', '.join(sorted(unknown))}")
        given = cast(Sequence[object], raw["operating_points"])
        if len(given) != labels:
            raise ValueError(f"calibration has {len(given)} operating points for {labels} labels")
        return cls(tuple(None if point is None else float(str(point)) for point in given))
