"""What a network of volumes expects at its input. Light: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import Literal, cast, get_args

from .intensity_spec import Intensity

Fit = Literal["stretch", "center"]
IntensityPlace = Literal["first", "spaced", "last"]
Resize = Literal["linear", "area"]
Blend = Literal["constant", "gaussian"]
Padding = Literal["constant", "replicate", "reflect"]
Sides = tuple[int, int, int]
Millimetres = tuple[float, float, float]
Shares = tuple[float, float, float]

# The one kernel there is for volumes: linear along each axis; with antialiasing a triangle as wide
# as the new spacing where that is wider than the old one.
VOLUME_KERNEL = "linear-separable"

# As of MONAI's SlidingWindowInferer.
_SIGMA: Shares = (0.125, 0.125, 0.125)

_AXES = ({"R", "L"}, {"A", "P"}, {"S", "I"})


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """Axes, spacing, intensity and windows of the input tensor.

    Attributes
    ----------
    orientation : str
        Where index grows to on each axis: three letters, one each of R or L, A or P, S or I, as
        MONAI means them: ``RAS`` grows to the patient's right, front and head. Axes of an oblique
        stack are those nearest to these; they are not turned.
    spacing : tuple of float or None
        Size of a voxel in mm along those axes; None keeps that of the source.
    size : tuple of int or None
        Voxels along those axes, after the spacing; None takes what there is.
    fit : {"stretch", "center"}
        How a volume becomes that size: stretched, or cut and padded with zeros around its centre.
    resize : {"linear", "area"}
        How a volume is stretched: linear between voxels, or the mean over each new voxel.
    intensity : tuple of Intensity
        Steps from HU to what the network sees, in this order.
    intensity_at : {"first", "spaced", "last"}
        When they are done: before the spacing, after it, or after the size.
    antialias : bool
        Whether finer detail than the new spacing is smoothed away.
    crop_foreground : bool
        Whether only the box around values above 0 goes to the network.
    channels : int
        How often the volume is given: 3 for a network made for colours.
    roi : tuple of int or None
        Side of the window that slides over a volume, in voxels; None shows all of it at once.
    overlap : float
        Share by which neighbouring windows overlap, 0 to below 1.
    blend : {"constant", "gaussian"}
        How windows are weighted where they overlap.
    blend_sigma : tuple of float
        Of gaussian: its standard deviation along each axis, as a share of the window's side.
    padding : {"constant", "replicate", "reflect"}
        What surrounds a volume that is smaller than a window: zeros, its border or its mirror.
    """

    orientation: str = "RAS"
    spacing: Millimetres | None = None
    size: Sides | None = None
    fit: Fit = "stretch"
    resize: Resize = "linear"
    intensity: tuple[Intensity, ...] = ()
    intensity_at: IntensityPlace = "spaced"
    antialias: bool = True
    crop_foreground: bool = False
    channels: int = 1
    roi: Sides | None = None
    overlap: float = 0.25
    blend: Blend = "constant"
    blend_sigma: Shares = _SIGMA
    padding: Padding = "constant"

    def __post_init__(self) -> None:
        letters = set(self.orientation)
        if len(self.orientation) != 3 or not all(len(letters & axis) == 1 for axis in _AXES):
            raise ValueError(
                f"orientation {self.orientation!r} needs one letter each of R/L, A/P and S/I"
            )
        if self.spacing is not None and not all(0.05 <= one <= 50.0 for one in self.spacing):
            raise ValueError(f"a spacing of {list(self.spacing)} mm is outside 0.05 to 50")
        for name, sides in (("size", self.size), ("roi", self.roi)):
            if sides is not None and not all(4 <= side <= 1024 for side in sides):
                raise ValueError(f"a {name} of {list(sides)} voxels is outside 4 to 1024")
        if not 0.0 <= self.overlap < 1.0:
            raise ValueError(f"an overlap of {self.overlap} is outside 0 to below 1")
        if not all(0.001 <= one <= 100.0 for one in self.blend_sigma):
            raise ValueError(f"a blend_sigma of {list(self.blend_sigma)} is outside 0.001 to 100")
        if not 1 <= self.channels <= 16:
            raise ValueError(f"{self.channels} channels are outside 1 to 16")
        if self.crop_foreground and self.size is not None:
            raise ValueError("crop_foreground and size exclude each other")
        for name, known in _WORDS.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}")

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form: what differs from the defaults, kernel included."""
        default = VolumeSpec()
        values: dict[str, object] = {"orientation": self.orientation, "resample": VOLUME_KERNEL}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != getattr(default, field.name):
                values[field.name] = list(value) if isinstance(value, tuple) else value
        if self.intensity:
            values["intensity"] = [step.to_dict() for step in self.intensity]
        return values

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> VolumeSpec:
        """Build from the JSON form; ValueError if a key is unknown or a value impossible."""
        unknown = raw.keys() - {field.name for field in fields(cls)} - {"resample"}
        if unknown:
            raise ValueError(f"unknown keys in an input: {', '.join(sorted(unknown))}")
        if raw.get("resample", VOLUME_KERNEL) != VOLUME_KERNEL:
            raise ValueError(f"unknown kernel {raw['resample']!r}; there is {VOLUME_KERNEL!r}")
        values: dict[str, object] = {k: v for k, v in raw.items() if k != "resample"}
        for name in ("spacing", "blend_sigma"):
            if name in values:
                values[name] = _three(name, values[name])
        for name in ("size", "roi"):
            if name in values:
                values[name] = tuple(int(one) for one in _three(name, values[name], whole=True))
        if "intensity" in values:
            steps = cast(Sequence[Mapping[str, object]], values["intensity"])
            values["intensity"] = tuple(Intensity.from_dict(step) for step in steps)
        for name in ("antialias", "crop_foreground"):
            if not isinstance(values.get(name, False), bool):
                raise ValueError(f"{name} is {values[name]!r}, not true or false")
        if "overlap" in values:
            values["overlap"] = float(str(values["overlap"]))
        if "channels" in values:
            values["channels"] = int(str(values["channels"]))
        return cls(**values)  # type: ignore[arg-type]


_WORDS: Mapping[str, tuple[str, ...]] = {
    "fit": get_args(Fit),
    "resize": get_args(Resize),
    "intensity_at": get_args(IntensityPlace),
    "blend": get_args(Blend),
    "padding": get_args(Padding),
}


def _three(name: str, raw: object, *, whole: bool = False) -> tuple[float, float, float]:
    """Return one number for all axes, or one for each."""
    values = list(raw) if isinstance(raw, Sequence) and not isinstance(raw, str) else [raw] * 3
    kinds = (int,) if whole else (int, float)
    numbers = [
        float(value)
        for value in values
        if isinstance(value, kinds) and not isinstance(value, bool) and isfinite(value)
    ]
    if len(values) != 3 or len(numbers) != 3:
        what = "whole numbers" if whole else "numbers"
        raise ValueError(f"{name} is {raw!r}, not three {what}")
    return numbers[0], numbers[1], numbers[2]
