"""VOI windows of PS3.3 C.11.2: which values of an image are spread over black to white.

The functions work on NumPy arrays and torch tensors alike, so that the same lines run where the
values are; this module imports neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol, Self, TypeVar


class VoiLutFunction(StrEnum):
    """Values of VOI LUT Function (0028,1056)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


class Values(Protocol):
    """What NumPy arrays and torch tensors have in common, as far as a window needs it."""

    def __add__(self, other: float, /) -> Self: ...
    def __sub__(self, other: float, /) -> Self: ...
    def __mul__(self, other: float, /) -> Self: ...
    def __truediv__(self, other: float, /) -> Self: ...
    def __rtruediv__(self, other: float, /) -> Self: ...
    def __rpow__(self, other: float, /) -> Self: ...
    def clip(self, minimum: float, maximum: float, /) -> Self:
        """Limit the values."""
        ...


V = TypeVar("V", bound=Values)


def linear(values: V, center: float, width: float) -> V:
    """LINEAR (C.11.2.1.2.1): `width` counts values, so the ramp is `width` - 1 long."""
    if width == 1.0:
        return _ramp(values, center - 0.5, _STEP)
    return _ramp(values, center - 0.5 - (width - 1.0) / 2.0, width - 1.0)


def linear_exact(values: V, center: float, width: float) -> V:
    """LINEAR_EXACT (C.11.2.1.3.2): the ramp is `width` long and centred on `center`."""
    return _ramp(values, center - width / 2.0, width)


def sigmoid(values: V, center: float, width: float) -> V:
    """SIGMOID (C.11.2.1.3.1): 1 / (1 + exp(-4 (x - `center`) / `width`))."""
    # Beyond +-80 the result is 0 or 1 in single precision; unclipped, the power overflows.
    exponent = ((values - center) * (-4.0 / width)).clip(-80.0, 80.0)
    return 1.0 / (math.e**exponent + 1.0)


# The ramp of a LINEAR window of width 1, which the standard defines as a step above its foot.
_STEP = 1e-30


def _ramp(values: V, foot: float, length: float) -> V:
    return ((values - foot) / length).clip(0.0, 1.0)


_FUNCTIONS = {
    VoiLutFunction.LINEAR: linear,
    VoiLutFunction.LINEAR_EXACT: linear_exact,
    VoiLutFunction.SIGMOID: sigmoid,
}


@dataclass(frozen=True, slots=True)
class Window:
    """A window by centre and width, in the units of the image (HU for CT).

    Raises
    ------
    ValueError
        If the width is less than the function allows: 1 for LINEAR, above 0 for the others
        (PS3.3 C.11.2.1.2.1 and C.11.2.1.3).
    """

    center: float
    width: float
    name: str = ""
    function: VoiLutFunction = VoiLutFunction.LINEAR

    def __post_init__(self) -> None:
        if not (math.isfinite(self.center) and math.isfinite(self.width)):
            raise ValueError(f"window {self.name!r} needs a finite centre and width")
        least = 1.0 if self.function is VoiLutFunction.LINEAR else 0.0
        if self.width < least or self.width == 0.0:
            raise ValueError(f"window {self.name!r}: {self.function} needs a width above {least:g}")

    def apply(self, values: V) -> V:
        """Return `values`, of any shape, as 0 to 1."""
        return _FUNCTIONS[self.function](values, self.center, self.width)

    @property
    def ramp(self) -> tuple[float, float] | None:
        """Where black ends and how long the way to white is; None if it is no straight one."""
        if self.function is VoiLutFunction.LINEAR_EXACT:
            return self.center - self.width / 2.0, self.width
        if self.function is VoiLutFunction.LINEAR and self.width != 1.0:
            return self.center - 0.5 - (self.width - 1.0) / 2.0, self.width - 1.0
        return None

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {**asdict(self), "function": str(self.function)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> Window:
        """Build a window from its JSON form; ValueError or KeyError when that is not one."""
        unknown = raw.keys() - {"center", "width", "name", "function"}
        if unknown:
            raise ValueError(f"unknown keys in a window: {', '.join(sorted(unknown))}")
        return cls(
            center=float(str(raw["center"])),
            width=float(str(raw["width"])),
            name=str(raw.get("name", "")),
            function=VoiLutFunction(str(raw.get("function", VoiLutFunction.LINEAR))),
        )


# Widths and centres as radiologists use them; exact, because HU are not counts.
BRAIN = Window(40.0, 80.0, "brain", VoiLutFunction.LINEAR_EXACT)
SUBDURAL = Window(80.0, 200.0, "subdural", VoiLutFunction.LINEAR_EXACT)
SOFT = Window(40.0, 380.0, "soft", VoiLutFunction.LINEAR_EXACT)
NAMED: Mapping[str, Window] = MappingProxyType(
    {
        window.name: window
        for window in (
            BRAIN,
            SUBDURAL,
            SOFT,
            Window(40.0, 40.0, "stroke", VoiLutFunction.LINEAR_EXACT),
            Window(600.0, 2800.0, "bone", VoiLutFunction.LINEAR_EXACT),
            Window(-600.0, 1500.0, "lung", VoiLutFunction.LINEAR_EXACT),
            Window(40.0, 400.0, "abdomen", VoiLutFunction.LINEAR_EXACT),
            Window(40.0, 350.0, "mediastinum", VoiLutFunction.LINEAR_EXACT),
            Window(60.0, 150.0, "liver", VoiLutFunction.LINEAR_EXACT),
            Window(300.0, 600.0, "angio", VoiLutFunction.LINEAR_EXACT),
        )
    }
)


def parse_window(text: str) -> Window:
    """Return the window that a person names, by name (`NAMED`) or as ``CENTER/WIDTH``.

    Raises
    ------
    ValueError
        If it is neither; the message lists the names.
    """
    if (known := NAMED.get(text.strip().lower())) is not None:
        return known
    center, slash, width = text.partition("/")
    try:
        if not slash:
            raise ValueError
        return Window(float(center), float(width), function=VoiLutFunction.LINEAR_EXACT)
    except ValueError:
        names = ", ".join(NAMED)
        raise ValueError(
            f"{text!r} is no window: give CENTER/WIDTH, such as 40/80, or one of {names}"
        ) from None
