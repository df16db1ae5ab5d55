"""What is read: files of one transfer syntax, and what they should reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import networks
import pictures
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)


@dataclass(frozen=True, slots=True)
class Goals:
    """Least ratios of speed to the bare network, to MONAI's transforms, to the tutorial's style."""

    bare: float | None = None
    dictionaries: float | None = None
    tutorial: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A case before its files are written.

    Attributes
    ----------
    network : str
        Of `networks`.
    large : bool
        Radiographs of 3.6 million pixels.
    """

    title: str
    network: str
    syntax: str
    large: bool = False
    goals: Goals = field(default_factory=Goals)


@dataclass(frozen=True, slots=True)
class Case:
    """A case.

    Attributes
    ----------
    series : tuple of tuple of Path
        Files of each analysis.
    """

    name: str
    plan: Plan
    series: tuple[tuple[Path, ...], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for one in self.series for path in one)


# A worker reads as many at once. Of one alone its first slices would be waited for.
_HEADS = 2
_HEAD, _CHEST = networks.HEAD, networks.CHEST
PLANS: Mapping[str, Plan] = {
    "ct": Plan("CT, uncompressed", _HEAD, ExplicitVRLittleEndian, goals=Goals(0.90, 3.5, 2.0)),
    "ct-rle": Plan("CT, RLE", _HEAD, RLELossless),
    "ct-jpeg-lossless": Plan("CT, JPEG lossless", _HEAD, JPEGLosslessSV1),
    "ct-jpeg-ls": Plan("CT, JPEG-LS", _HEAD, JPEGLSLossless),
    "ct-jpeg-2000": Plan("CT, JPEG 2000", _HEAD, JPEG2000Lossless),
    "ct-htj2k": Plan("CT, HTJ2K", _HEAD, HTJ2KLossless),
    "film-jpeg": Plan("X-ray, JPEG", _CHEST, JPEGBaseline8Bit, goals=Goals(0.88, 3.0, 1.8)),
    "large": Plan(
        "X-ray 3.6 Mpx, uncompressed",
        _CHEST,
        ExplicitVRLittleEndian,
        True,
        Goals(None, 8.0, 3.0),
    ),
    "large-jpeg-lossless": Plan("X-ray 3.6 Mpx, JPEG lossless", _CHEST, JPEGLosslessSV1, True),
    "large-jpeg-2000": Plan("X-ray 3.6 Mpx, JPEG 2000", _CHEST, JPEG2000Lossless, True),
}


def write(name: str, folder: Path, slices: int, films: int) -> Case:
    """Write the files of a case; each radiograph is an analysis of its own, so is a CT series."""
    plan, place = PLANS[name], folder / name
    if plan.network == networks.HEAD:
        series = tuple(
            pictures.head_series(place / str(number), plan.syntax, slices)
            for number in range(_HEADS)
        )
    else:
        each = pictures.films(place, plan.syntax, films, large=plan.large)
        series = tuple((path,) for path in each)
    return Case(name, plan, series)


def found(name: str, folder: Path) -> Case:
    """Return a case whose files are there."""
    place = folder / name
    if PLANS[name].network == networks.HEAD:
        heads = sorted(place.iterdir())
        return Case(name, PLANS[name], tuple(tuple(sorted(one.glob("*.dcm"))) for one in heads))
    return Case(name, PLANS[name], tuple((path,) for path in sorted(place.glob("*.dcm"))))
