"""What a network expects at its input. Light: no torch, so that any process can read a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, cast, get_args

from .plane_spec import PlaneSpec
from .volume_spec import VolumeSpec
from .windows import Window

ReaderKind = Literal["radiograph", "ct_slices", "ct_volume"]
Polarity = Literal["tag", "chest"]
Crop = Literal["none", "head", "square", "lungs"]
Intensity = Literal["percentiles", "full_range"]

# The one resize kernel there is: torch's bilinear interpolation with antialiasing. It is recorded
# in every bundle because kernels of different libraries differ by up to a third of the range.
RESIZE_KERNEL = "torch-bilinear-antialias"
_KEYS = (
    "kind", "size", "windows", "polarity", "resize", "crop", "voi", "intensity",
    "value_range", "channels", "plane",
)  # fmt: skip
_CROPS: Mapping[ReaderKind, tuple[Crop, ...]] = {
    "radiograph": ("none", "square", "lungs"),
    "ct_slices": ("none", "head"),
    "ct_volume": ("none",),
}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Shape and intensity of the input tensor.

    Attributes
    ----------
    kind : {"radiograph", "ct_slices", "ct_volume"}
        Which preparation makes the tensor.
    size : int
        Rows and columns of the (square) input; 0 for a volume.
    windows : tuple of Window
        CT only: one channel each, in this order; none with `plane`.
    polarity : {"tag", "chest"}
        Radiographs only. ``tag`` believes Photometric Interpretation. ``chest`` also looks whether
        the picture can be a chest in that polarity and turns a negative round.
    crop : {"none", "head", "square", "lungs"}
        Which part of the picture is shown: all, or the box around the head of a CT slice, or the
        central square of a radiograph or the box around its lungs.
    voi : bool
        Radiographs only. The VOI LUT or window of the header is applied, where there is one; else
        no header's grey levels change the input.
    intensity : {"percentiles", "full_range"}
        Radiographs only: what becomes black and white. ``percentiles`` looks at the picture,
        ``full_range`` at the values that Bits Stored (0028,0101) has room for.
    value_range : tuple of float
        Radiographs only: black and white in the tensor.
    volume : VolumeSpec or None
        Of kind ``ct_volume`` only: everything else about it.
    copies : int
        How often a radiograph, or a slice of a `plane`, is given: 3 for a network made for colours.
    plane : PlaneSpec or None
        Radiographs and slices only: the input is made as MONAI's transforms make it, and polarity
        and VOI are all else that is done.
    """

    kind: ReaderKind
    size: int
    windows: tuple[Window, ...] = ()
    polarity: Polarity = "tag"
    crop: Crop = "none"
    voi: bool = False
    intensity: Intensity = "percentiles"
    value_range: tuple[float, float] = (0.0, 1.0)
    volume: VolumeSpec | None = None
    copies: int = 1
    plane: PlaneSpec | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ReaderKind):
            raise ValueError(f"unknown kind of reader: {self.kind!r}")
        if (self.kind == "ct_volume") != (self.volume is not None):
            raise ValueError("ct_volume needs the specification of a volume, other kinds none")
        if self.polarity not in get_args(Polarity):
            raise ValueError(f"unknown polarity: {self.polarity!r}")
        if self.crop not in _CROPS[self.kind]:
            raise ValueError(f"a {self.kind} input has no crop {self.crop!r}")
        if self.intensity not in get_args(Intensity):
            raise ValueError(f"unknown intensity: {self.intensity!r}")
        black, white = self.value_range
        if not (isfinite(black) and isfinite(white) and black < white):
            raise ValueError(f"value_range {[black, white]} does not lead from black to white")
        if self.volume is None and not 16 <= self.size <= 4096:
            raise ValueError(f"an input size of {self.size} is outside 16 to 4096")
        if self.plane is not None:
            self._check_plane()
        elif (self.kind == "ct_slices") != bool(self.windows):
            raise ValueError("ct_slices needs at least one window, other kinds take none")
        if not isinstance(self.voi, bool) or (self.voi and self.kind != "radiograph"):
            raise ValueError("voi is true or false, and true for a radiograph alone")
        if self.kind != "radiograph" and (added := self._intensity()):
            raise ValueError(f"only a radiograph has {', '.join(added)}")
        many = self.kind == "radiograph" or self.plane is not None
        if not 1 <= self.copies <= (16 if many else 1):
            raise ValueError(f"a {self.kind} input cannot have {self.copies} channels")

    def _check_plane(self) -> None:
        if self.kind == "ct_volume":
            raise ValueError("a volume has no plane")
        if self.windows or self.crop != "none" or self._intensity():
            raise ValueError("plane excludes windows, crop, intensity and value_range")

    @property
    def channels(self) -> int:
        """Channels of the input tensor."""
        if self.volume is not None:
            return self.volume.channels
        return len(self.windows) or self.copies

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form, resize kernel included."""
        if self.volume is not None:
            return {"kind": self.kind, **self.volume.to_dict()}
        stated: dict[str, object] = {
            "kind": self.kind,
            "size": self.size,
            "windows": [window.to_dict() for window in self.windows],
            "polarity": self.polarity,
            "resize": RESIZE_KERNEL,
            **self._intensity(),
        }
        if self.plane is not None:
            del stated["windows"], stated["resize"]
            stated["plane"] = self.plane.to_dict()
        # Left out where there is none: the configuration of before stays the same.
        if self.crop != "none":
            stated["crop"] = self.crop
        if self.voi:
            stated["voi"] = True
        return stated if self.copies == 1 else {**stated, "channels": self.copies}

    def _intensity(self) -> dict[str, object]:
        """Return what is not as it always was; left out else, like the crop."""
        stated: dict[str, object] = {}
        if self.intensity != "percentiles":
            stated["intensity"] = self.intensity
        if self.value_range != (0.0, 1.0):
            stated["value_range"] = list(self.value_range)
        return stated

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> InputSpec:
        """Build a specification from its JSON form.

        Raises
        ------
        ValueError
            If a key is unknown or a value is impossible, or another resize kernel is asked for.
        KeyError
            If ``kind`` or ``size`` is missing.
        """
        if raw["kind"] == "ct_volume":
            volume = VolumeSpec.from_dict({k: v for k, v in raw.items() if k != "kind"})
            return cls("ct_volume", 0, volume=volume)
        unknown = raw.keys() - set(_KEYS)
        if unknown:
            raise ValueError(f"unknown keys in an input: {', '.join(sorted(unknown))}")
        if raw.get("resize", RESIZE_KERNEL) != RESIZE_KERNEL:
            raise ValueError(f"unknown resize kernel {raw['resize']!r}; there is {RESIZE_KERNEL!r}")
        windows = cast(list[Mapping[str, object]], raw.get("windows", []))
        return cls(
            kind=cast(ReaderKind, raw["kind"]),
            size=int(str(raw["size"])),
            windows=tuple(Window.from_dict(window) for window in windows),
            polarity=cast(Polarity, raw.get("polarity", "tag")),
            crop=cast(Crop, raw.get("crop", "none")),
            voi=cast(bool, raw.get("voi", False)),
            intensity=cast(Intensity, raw.get("intensity", "percentiles")),
            value_range=_pair(raw.get("value_range", (0.0, 1.0))),
            copies=int(str(raw.get("channels", 1))),
            plane=_plane(raw.get("plane")),
        )


def _plane(raw: object) -> PlaneSpec | None:
    return None if raw is None else PlaneSpec.from_dict(cast(Mapping[str, object], raw))


def _pair(raw: object) -> tuple[float, float]:
    black, white = cast(Sequence[object], raw)
    return float(str(black)), float(str(white))
