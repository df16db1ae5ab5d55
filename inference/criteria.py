"""What images a model was made for, as its bundle states it. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Literal, cast, get_args

Contrast = Literal["any", "without", "with"]
Anatomy = Literal["any", "head"]

# Criteria that came later count only where they are set: a new release of Preread alone must not
# make the configuration of a model another one, and all its analyses new ones.
_ADDED = (
    "max_duplicates",
    "max_spacing_deviation",
    "contrast",
    "kernels",
    "refused_kernels",
    "phantom_words",
    "anatomy",
)


@dataclass(frozen=True, slots=True)
class Criteria:
    """The suitability section of a bundle: images that fail it are not analysed.

    An attribute that the images lack never refuses them, what it says may: headers of real
    images leave out View Position and Body Part Examined as often as they state them. Only
    ``contrast = "with"`` asks for an attribute.

    Attributes
    ----------
    modalities : tuple of str
        Accepted values of Modality (0008,0060); empty accepts all.
    body_parts : tuple of str
        Accepted values of Body Part Examined (0018,0015); empty accepts all.
    refused_views : tuple of str
        Values of View Position (0018,5101), and words of a View Code Sequence (0054,0220), that are
        refused, e.g. LL, RL, LATERAL. Where LATERAL is refused, so is an image whose Patient
        Orientation (0020,0020) has the patient's front or back at one side.
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
    max_duplicates : float
        CT: largest accepted share (0 to 1) of slices at a position that another slice has already.
        1 accepts all: a repeated acquisition may show what the first one missed.
    max_spacing_deviation : float
        CT: largest share by which the distance of two slices may differ from the distances next to
        it, see `spacing.uneven`: a scan that goes over from 4 mm at the skull base to 7 mm
        above is even. 0 accepts all.
    contrast : {"any", "without", "with"}
        Whether images with, or without, a contrast agent are refused. It is told by Contrast/Bolus
        Agent (0018,0010), its sequence (0018,0012) and, of enhanced images, Contrast/Bolus Usage
        (0018,9341); never by a description. Images that say nothing have none: the attributes are
        required of images made with contrast (PS3.3 C.7.6.4).
    kernels, refused_kernels : tuple of str
        Accepted and refused values of Convolution Kernel (0018,1210): patterns with ``*``, ``?``
        and ``[...]``, upper and lower case alike. Of several values one must match to be accepted,
        and one is enough to be refused. No pattern accepts all.
    phantom_words : tuple of str
        Patterns of words in Patient's Name (0010,0010) or Patient ID (0010,0020) by which a site
        names its phantoms. None by default: people have such names too, and only what declares
        itself a phantom (0010,0200; 0028,0300) is refused without being asked.
    anatomy : {"any", "head"}
        CT: whether a series in whose slices no brain inside a skull is seen is refused, whatever
        its header says: another part of the body, or a phantom.
    """

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    refused_views: tuple[str, ...] = ()
    min_rows: int = 64
    min_slices: int = 1
    min_coverage_mm: float = 0.0
    max_gap: float = 0.0
    axial: bool = False
    max_duplicates: float = 1.0
    max_spacing_deviation: float = 0.0
    contrast: Contrast = "any"
    kernels: tuple[str, ...] = ()
    refused_kernels: tuple[str, ...] = ()
    phantom_words: tuple[str, ...] = ()
    anatomy: Anatomy = "any"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        values: dict[str, object] = asdict(self)
        default = asdict(Criteria())
        return {
            name: value
            for name, value in values.items()
            if name not in _ADDED or value != default[name]
        }

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
            max_duplicates=_share(raw, "max_duplicates", 1.0),
            max_spacing_deviation=_share(raw, "max_spacing_deviation", 0.0),
            contrast=_contrast(raw.get("contrast", "any")),
            kernels=_words(raw, "kernels"),
            refused_kernels=_words(raw, "refused_kernels"),
            phantom_words=_words(raw, "phantom_words"),
            anatomy=_anatomy(raw.get("anatomy", "any")),
        )


def _words(raw: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = raw.get(key, ())
    if isinstance(value, str):
        raise ValueError(f"{key} must be a list of words, not the text {value!r}")
    return tuple(str(word).upper() for word in cast(Sequence[object], value))


def _share(raw: Mapping[str, object], key: str, default: float) -> float:
    value = float(str(raw.get(key, default)))
    if not (isfinite(value) and 0.0 <= value <= 1.0):
        raise ValueError(f"{key} must be a share from 0 to 1, not {value}")
    return value


def _contrast(raw: object) -> Contrast:
    if raw not in get_args(Contrast):
        raise ValueError(f"contrast {raw!r} is not one of {', '.join(get_args(Contrast))}")
    return cast(Contrast, raw)


def _anatomy(raw: object) -> Anatomy:
    if raw not in get_args(Anatomy):
        raise ValueError(f"anatomy {raw!r} is not one of {', '.join(get_args(Anatomy))}")
    return cast(Anatomy, raw)
