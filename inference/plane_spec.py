"""What a network of MONAI's transforms expects of one picture or slice. Light: no torch, no NumPy.

Networks of this project see pictures with their sides in proportion. Others were trained on
pictures that MONAI stretched, in MONAI's order of axes; these see what they saw then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from .intensity_spec import Intensity

FittingKind = Literal["linear", "area", "center"]


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a picture becomes the square that a network sees.

    Attributes
    ----------
    kind : {"linear", "area", "center"}
        ``linear`` and ``area``: stretched, between pixels or to the mean over each new one (MONAI's
        Resize). ``center``: cut and padded with zeros around its centre (ResizeWithPadOrCrop).
    """

    kind: FittingKind

    def __post_init__(self) -> None:
        if self.kind not in get_args(FittingKind):
            raise ValueError(f"fitting {self.kind!r} is not one of {', '.join(_FITTINGS)}")

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"kind": self.kind}


_FITTINGS: tuple[str, ...] = get_args(FittingKind)
Step = Intensity | Fitting


@dataclass(frozen=True, slots=True)
class PlaneSpec:
    """Steps from the values of a picture, as they are stored, to the input of a network.

    Attributes
    ----------
    steps : tuple of Intensity or Fitting
        In the order in which they are done; one of them is a fitting.
    transposed : bool
        Whether the network has the columns of a picture as its rows, as MONAI's readers give them.
    """

    steps: tuple[Step, ...]
    transposed: bool = True

    def __post_init__(self) -> None:
        if sum(isinstance(step, Fitting) for step in self.steps) != 1:
            raise ValueError(f"steps need one of {', '.join(_FITTINGS)}, and no second")
        if not isinstance(self.transposed, bool):
            raise ValueError(f"transposed is {self.transposed!r}, not true or false")

    @property
    def fitting(self) -> FittingKind:
        """How the picture becomes a square."""
        return next(step.kind for step in self.steps if isinstance(step, Fitting))

    @property
    def intensity(self) -> tuple[Intensity, ...]:
        """The steps that change values."""
        return tuple(step for step in self.steps if isinstance(step, Intensity))

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"steps": [step.to_dict() for step in self.steps], "transposed": self.transposed}

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> PlaneSpec:
        """Build from the JSON form.

        Raises
        ------
        ValueError
            If a key is unknown or a value impossible.
        KeyError
            If ``steps``, or the kind of a step, is missing.
        """
        if unknown := raw.keys() - {"steps", "transposed"}:
            raise ValueError(f"unknown keys in a plane: {', '.join(sorted(unknown))}")
        listed = cast(Sequence[Mapping[str, object]], raw["steps"])
        return cls(
            steps=tuple(_step(one) for one in listed),
            transposed=cast(bool, raw.get("transposed", True)),
        )


def _step(raw: Mapping[str, object]) -> Step:
    if raw["kind"] not in _FITTINGS:
        return Intensity.from_dict(raw)
    if unknown := raw.keys() - {"kind"}:
        raise ValueError(f"unknown keys in {raw['kind']}: {', '.join(sorted(unknown))}")
    return Fitting(cast(FittingKind, raw["kind"]))
