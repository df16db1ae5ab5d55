"""What images a model was made for, as its bundle states it. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import cast


@dataclass(frozen=True, slots=True)
class Criteria:
    """The suitability section of a bundle: images that fail it are not analysed.

    An attribute that the images lack never refuses them, what it says may: headers of real
    images leave out View Position and Body Part Examined as often as they state them.

    Attributes
    ----------
    modalities : tuple of str
        Accepted values of Modality (0008,0060); empty accepts all.
    body_parts : tuple of str
        Accepted values of Body Part Examined (0018,0015); empty accepts all.
    refused_views : tuple of str
        Values of View Position (0018,5101), and words of a View Code Sequence (0054,0220), that are
        refused, e.g. LL, RL, LATERAL.
    min_rows : int
        Smallest accepted side of an image in pixels; less is an icon.
    min_slices : int
        CT: fewest slices of one geometry.
    min_coverage_mm : float
        CT: shortest accepted extent of the series along its normal, slice thickness included.
    max_gap : float
        CT: largest accepted distance of two slices as a multiple of the distances on either side;
        a wider gap means that slices are missing. 0 accepts all.
    axial : bool
        CT: whether coronal and sagittal stacks are refused.
    """

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    refused_views: tuple[str, ...] = ()
    min_rows: int = 64
    min_slices: int = 1
    min_coverage_mm: float = 0.0
    max_gap: float = 0.0
    axial: bool = False

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> Criteria:
        """Build from the JSON form; ValueError if a key is unknown or a value impossible."""
        unknown = raw.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown keys in suitability: {', '.join(sorted(unknown))}")
        return cls(
            modalities=_words(raw, "modalities"),
            body_parts=_words(raw, "body_parts"),
            refused_views=_words(raw, "refused_views"),
            min_rows=int(str(raw.get("min_rows", 64))),
            min_slices=int(str(raw.get("min_slices", 1))),
            min_coverage_mm=float(str(raw.get("min_coverage_mm", 0.0))),
            max_gap=float(str(raw.get("max_gap", 0.0))),
            axial=bool(raw.get("axial", False)),
        )


def _words(raw: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = raw.get(key, ())
    if isinstance(value, str):
        raise ValueError(f"{key} must be a list of words, not the text {value!r}")
    return tuple(str(word).upper() for word in cast(Sequence[object], value))
