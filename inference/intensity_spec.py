"""How the values of a volume are scaled for a network, as MONAI's transforms name it. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, cast, get_args

IntensityKind = Literal["range", "minmax", "percentiles", "standardize"]
Pair = tuple[float, float]

# What each kind has besides its kind, and what must be given.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "range": ("source", "target", "clip"),
    "minmax": ("target",),
    "percentiles": ("source", "target", "clip"),
    "standardize": ("mean", "deviation", "nonzero"),
}


@dataclass(frozen=True, slots=True)
class Intensity:
    """One step from values to values.

    Attributes
    ----------
    kind : str
        ``range``: `source`, in HU, becomes `target` (MONAI's ScaleIntensityRange).
        ``minmax``: the lowest and the highest value become `target` (ScaleIntensity).
        ``percentiles``: two percentiles become `target` (ScaleIntensityRangePercentiles).
        ``standardize``: less `mean`, by `deviation`; those of the image where they are None
        (NormalizeIntensity).
    source : (float, float) or None
    target : (float, float)
    clip : bool
        Whether what is beyond `target` is limited to it.
    mean, deviation : float or None
    nonzero : bool
        Whether values that are zero are neither counted nor changed.
    """

    kind: IntensityKind
    source: Pair | None = None
    target: Pair = (0.0, 1.0)
    clip: bool = True
    mean: float | None = None
    deviation: float | None = None
    nonzero: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(IntensityKind):
            raise ValueError(
                f"intensity {self.kind!r} is not one of {', '.join(get_args(IntensityKind))}"
            )
        if (self.source is not None) != ("source" in _FIELDS[self.kind]):
            raise ValueError(f"intensity {self.kind} and source do not go together as given")
        if self.source is not None and not self.source[0] < self.source[1]:
            raise ValueError(f"the source {list(self.source)} of an intensity does not ascend")
        if self.kind == "percentiles" and not (
            self.source is not None and self.source[0] >= 0.0 and self.source[1] <= 100.0
        ):
            raise ValueError("the source of percentiles lies from 0 to 100")
        if not self.target[0] < self.target[1]:
            raise ValueError(f"the target {list(self.target)} of an intensity does not ascend")
        if self.deviation is not None and not self.deviation > 0.0:
            raise ValueError(f"the deviation of an intensity is {self.deviation}, not above 0")

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        values: dict[str, object] = {"kind": self.kind}
        for name in _FIELDS[self.kind]:
            value = getattr(self, name)
            if value is not None:
                values[name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> Intensity:
        """Build from the JSON form.

        Raises
        ------
        ValueError
            If a key is unknown for the kind or a value impossible.
        KeyError
            If ``kind`` is missing.
        """
        kind = cast(IntensityKind, raw["kind"])
        unknown = raw.keys() - {"kind", *_FIELDS.get(str(kind), raw.keys())}
        if unknown:
            raise ValueError(f"unknown keys in intensity {kind}: {', '.join(sorted(unknown))}")
        source = raw.get("source")
        return cls(
            kind=kind,
            source=None if source is None else _pair("source", source),
            target=_pair("target", raw.get("target", (0.0, 1.0))),
            clip=_flag("clip", raw.get("clip", True)),
            mean=_number_or_none("mean", raw.get("mean")),
            deviation=_number_or_none("deviation", raw.get("deviation")),
            nonzero=_flag("nonzero", raw.get("nonzero", False)),
        )


def _pair(name: str, raw: object) -> Pair:
    if not isinstance(raw, Sequence) or isinstance(raw, str) or len(raw) != 2:
        raise ValueError(f"{name} of an intensity is {raw!r}, not two numbers")
    low, high = _number(name, raw[0]), _number(name, raw[1])
    return low, high


def _number(name: str, raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not isfinite(raw):
        raise ValueError(f"{name} of an intensity is {raw!r}, not a number")
    return float(raw)


def _number_or_none(name: str, raw: object) -> float | None:
    return None if raw is None else _number(name, raw)


def _flag(name: str, raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"{name} of an intensity is {raw!r}, not true or false")
    return raw
