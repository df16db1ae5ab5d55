"""What a network expects at its input. Light: no torch, so that any process can read a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, cast, get_args

from .windows import Window

ReaderKind = Literal["radiograph", "ct_slices"]
Polarity = Literal["tag", "chest"]
Crop = Literal["none", "head", "square", "lungs"]
Intensity = Literal["percentiles", "full_range"]

# The one resize kernel there is: torch's bilinear interpolation with antialiasing. It is recorded
# in every bundle because kernels of different libraries differ by up to a third of the range.
RESIZE_KERNEL = "torch-bilinear-antialias"
_KEYS = (
    "kind", "size", "windows", "polarity", "resize", "crop", "voi", "intensity",
    "value_range",
)  # fmt: skip
_CROPS: Mapping[ReaderKind, tuple[Crop, ...]] = {
    "radiograph": ("none", "square", "lungs"),
    "ct_slices": ("none", "head"),
}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Shape and intensity of the input tensor.

    Attributes
    ----------
    kind : {"radiograph", "ct_slices"}
        Which preparation makes the tensor.
    size : int
        Rows and columns of the (square) input.
    windows : tuple of Window
        CT only: one channel each, in this order.
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
    """

    kind: ReaderKind
    size: int
    windows: tuple[Window, ...] = ()
    polarity: Polarity = "tag"
    crop: Crop = "none"
    voi: bool = False
    intensity: Intensity = "percentiles"
    value_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.kind not in get_args(ReaderKind):
            raise ValueError(f"unknown kind of reader: {self.kind!r}")
        if self.polarity not in get_args(Polarity):
            raise ValueError(f"unknown polarity: {self.polarity!r}")
        if self.crop not in _CROPS[self.kind]:
            raise ValueError(f"a {self.kind} input has no crop {self.crop!r}")
        if self.intensity not in get_args(Intensity):
            raise ValueError(f"unknown intensity: {self.intensity!r}")
        black, white = self.value_range
        if not (isfinite(black) and isfinite(white) and black < white):
            raise ValueError(f"value_range {[black, white]} does not lead from black to white")
        if not 16 <= self.size <= 4096:
            raise ValueError(f"an input size of {self.size} is outside 16 to 4096")
        if (self.kind == "ct_slices") != bool(self.windows):
            raise ValueError("ct_slices needs at least one window, a radiograph takes none")
        if not isinstance(self.voi, bool) or (self.voi and self.kind != "radiograph"):
            raise ValueError("voi is true or false, and true for a radiograph alone")
        if self.kind != "radiograph" and (added := self._intensity()):
            raise ValueError(f"only a radiograph has {', '.join(added)}")

    @property
    def channels(self) -> int:
        """Channels of the input tensor."""
        return len(self.windows) or 1

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form, resize kernel included."""
        stated: dict[str, object] = {
            "kind": self.kind,
            "size": self.size,
            "windows": [window.to_dict() for window in self.windows],
            "polarity": self.polarity,
            "resize": RESIZE_KERNEL,
            **self._intensity(),
        }
        # Left out where there is none: the configuration of before stays the same.
        if self.crop != "none":
            stated["crop"] = self.crop
        if self.voi:
            stated["voi"] = True
        return stated

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
        )


def _pair(raw: object) -> tuple[float, float]:
    black, white = cast(Sequence[object], raw)
    return float(str(black)), float(str(white))
