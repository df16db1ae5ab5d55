"""What a bundle says of its head over the slices of a series. Light: no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SEQUENCE_WEIGHTS = "models/sequence.safetensors"


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """The ``sequence`` section of ``configs/preread.json``.

    Attributes
    ----------
    hidden : int
        Units of the recurrent layer, for each direction.
    step_mm : float
        The even step that slices are brought to.
    weights_sha256 : str
        Of the file of weights; it is part of the configuration digest.
    weights : str
        The file, relative to the bundle.
    """

    hidden: int = 16
    step_mm: float = 5.0
    weights_sha256: str = ""
    weights: str = SEQUENCE_WEIGHTS

    def __post_init__(self) -> None:
        if not 1 <= self.hidden <= 1024:
            raise ValueError(f"hidden of sequence is {self.hidden}, outside 1 to 1024")
        if not 0.1 <= self.step_mm <= 50.0:
            raise ValueError(f"step_mm of sequence is {self.step_mm}, outside 0.1 to 50")

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form, without the digest of the weights."""
        return {"hidden": self.hidden, "step_mm": self.step_mm}

    def facts(self) -> dict[str, object]:
        """Return all that can change a result."""
        return {**self.to_dict(), "weights_sha256": self.weights_sha256}

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], bundle: Path) -> SequenceSpec:
        """Build from the JSON form and hash the weights in the folder `bundle`.

        Raises
        ------
        ValueError
            If a key is unknown, a value impossible, or the file of weights is not there.
        """
        unknown = raw.keys() - {"hidden", "step_mm"}
        if unknown:
            raise ValueError(f"unknown keys in sequence: {', '.join(sorted(unknown))}")
        path = bundle / SEQUENCE_WEIGHTS
        if not path.is_file():
            raise ValueError(f"there is a sequence section, but no {SEQUENCE_WEIGHTS}")
        return cls(
            hidden=int(str(raw.get("hidden", 16))),
            step_mm=float(str(raw.get("step_mm", 5.0))),
            weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
