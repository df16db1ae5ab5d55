"""Where a model looked, as it is shown, stored and drawn again: a small map with its place.

Light: no torch. A map keeps the resolution at which it was made, in 8 bits; it is enlarged only to
be drawn (`enlarged_map`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from .enlarged_map import Extent, enlarged
from .errors import InferenceError
from .placement import Box, Placement, Shape

# What a site or a person may ask for. ``class-activation`` is the default way; see `Method`.
ExplanationName = Literal[
    "class-activation", "gradients", "occlusion", "integrated-gradients", "none"
]
DEFAULT: ExplanationName = "class-activation"

# Log-odds that all places which speak for a label must add; what is less is shown as nothing.
# Scaled to its highest place it would be a picture of noise, as certain as any other.
LEAST_EVIDENCE = 0.1
# The same of a network's own map, which is of probabilities: below that it says of every place that
# nothing is there.
LEAST_OWN = 0.05
_LEVELS = 255


class Method(StrEnum):
    """How a map was made."""

    CLASS_ACTIVATION = "class-activation"
    GRADIENTS = "gradients"
    OCCLUSION = "occlusion"
    INTEGRATED_GRADIENTS = "integrated-gradients"
    OWN_MAP = "own-map"

    @property
    def words(self) -> str:
        """Its name for people."""
        return _TITLES[self]


_TITLES = {
    Method.CLASS_ACTIVATION: "class activation map",
    Method.GRADIENTS: "gradients of feature maps",
    Method.OCCLUSION: "occlusion",
    Method.INTEGRATED_GRADIENTS: "integrated gradients",
    Method.OWN_MAP: "the network's own map",
}


def explanation_named(raw: object) -> ExplanationName:
    """Return the explanation of this name; ValueError if there is none."""
    if raw not in get_args(ExplanationName):
        known = ", ".join(get_args(ExplanationName))
        raise ValueError(f"explanation is {raw!r}, not one of {known}")
    return cast(ExplanationName, raw)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What each cell of a network's input adds to a label.

    Attributes
    ----------
    method : Method
    values : ndarray of float32, (h, w)
        Log-odds; negative where a cell speaks against the label. Their sum is what all of them add,
        for methods whose cells add up. Of `Method.OWN_MAP` probabilities.
    parameters : mapping of str to int, float or str
        Of the method.
    cell : float or None
        Side of a cell in pixels of the input, where the last cells reach beyond it; without, the
        cells share it evenly.
    """

    method: Method
    values: NDArray[np.float32]
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)
    cell: float | None = None

    def placed(
        self, label: str, place: Placement, spacing_mm: tuple[float, float] | None = None
    ) -> Explanation:
        """Return the same as a map over the source.

        Parameters
        ----------
        label : str
            Name of the label.
        place : Placement
            What of the source the input shows.
        spacing_mm : tuple of float, optional
            Distance of rows and of columns of the source.

        Raises
        ------
        InferenceError
            If it is not made of numbers: the gradient of a root, for one, has none at zero.
        """
        if not np.isfinite(self.values).all():
            raise InferenceError(
                f"{self.method.words} of {label} gives what is no number: take another explanation"
            )
        for_it = np.maximum(self.values, 0.0)
        highest = float(for_it.max(initial=0.0))
        if self.method is Method.OWN_MAP:
            weak = highest < LEAST_OWN
        else:
            weak = float(for_it.sum()) < LEAST_EVIDENCE
        levels = np.zeros(for_it.shape, dtype=np.uint8)
        if highest > 0.0 and not weak:
            levels = np.rint(for_it * (_LEVELS / highest)).astype(np.uint8)
        return Explanation(
            label=label,
            method=self.method,
            levels=levels,
            source=place.shape,
            extent=_extent(place, self.values.shape, self.cell),
            seen=place.box,
            parameters={**self.parameters, "highest": round(highest, 6)},
            spacing_mm=spacing_mm,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Where a model looked for one label in one frame.

    Attributes
    ----------
    label : str
        Name of the label.
    method : Method
    levels : ndarray of uint8, (h, w)
        255 where the evidence is highest, 0 where there is none, or some against; all 0 where all
        of it is too little to be shown.
    source : tuple of int
        Rows and columns of the source.
    extent : tuple of float
        Where the outer edges of the map lie in the source: top, left, bottom, right in pixels.
    seen : tuple of int
        The part of the source that the network saw: top, left, bottom, right.
    parameters : mapping of str to int, float or str
        Of the method; ``highest`` is the evidence of level 255, in log-odds (of
        `Method.OWN_MAP`: a probability).
    spacing_mm : tuple of float or None
        Distance of rows and of columns of the source, where its header tells.
    """

    label: str
    method: Method
    levels: NDArray[np.uint8]
    source: Shape
    extent: Extent
    seen: Box
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)
    spacing_mm: tuple[float, float] | None = None

    @property
    def cell_pixels(self) -> tuple[float, float]:
        """Rows and columns of the source that a cell covers."""
        top, left, bottom, right = self.extent
        return (bottom - top) / self.levels.shape[0], (right - left) / self.levels.shape[1]

    @property
    def cell_mm(self) -> tuple[float, float] | None:
        """Height and width of a cell in mm, where the spacing is known."""
        if self.spacing_mm is None:
            return None
        rows, columns = self.cell_pixels
        return rows * self.spacing_mm[0], columns * self.spacing_mm[1]

    @property
    def facts(self) -> dict[str, object]:
        """Which method made it, and its resolution; JSON-serialisable."""
        rows, columns = self.levels.shape
        known = {"label": self.label, "method": str(self.method), "rows": rows, "columns": columns}
        sides = self.cell_mm
        return {**known, **({} if sides is None else {"cell_mm": [round(s, 2) for s in sides]})}

    @property
    def is_shown(self) -> bool:
        """Whether there is enough evidence to be shown."""
        return bool(self.levels.any())

    @property
    def caption(self) -> str:
        """How it was made and how coarse it is: ``class activation map, 8 x 8 cells of 43 mm``."""
        rows, columns = self.levels.shape
        return f"{self.method.words}, {columns} x {rows} cells of {self._cell}"

    @property
    def _cell(self) -> str:
        sides, unit = (self.cell_pixels, "pixels") if self.cell_mm is None else (self.cell_mm, "mm")
        high, wide = (f"{side:.2g}" if side < 10 else f"{side:.0f}" for side in sides)
        if high != wide:
            return f"{wide} x {high} {unit}"
        return "1 pixel" if (high, unit) == ("1", "pixels") else f"{high} {unit}"

    def over_source(self, shape: Shape | None = None) -> NDArray[np.float32]:
        """Return the map over the whole source, 0 to 1, and 0 where the network saw nothing.

        Parameters
        ----------
        shape : tuple of int, optional
            Rows and columns; with about the proportions of the source if not given.

        Returns
        -------
        ndarray of float32, (rows, columns)
            Covers the source from edge to edge; its highest place is 1 if there is any evidence.
        """
        return enlarged(self.levels, self.source, self.extent, self.seen, shape)

    def packed(self) -> bytes:
        """Return the levels, compressed (RFC 1950), row by row."""
        return zlib.compress(np.ascontiguousarray(self.levels).tobytes(), 9)


def unpacked(content: bytes, shape: Shape) -> NDArray[np.uint8]:
    """Return levels as `Explanation.packed` wrote them; ValueError if they are damaged."""
    count = shape[0] * shape[1]
    unpacker = zlib.decompressobj()
    try:
        # Not more than there should be, whatever a damaged row would unpack to.
        levels = unpacker.decompress(content, count + 1)
    except zlib.error as error:
        raise ValueError(f"a stored map cannot be unpacked: {error}") from None
    if len(levels) != count:
        raise ValueError(f"a stored map has not {shape[0]} x {shape[1]} cells")
    return np.frombuffer(levels, dtype=np.uint8).reshape(shape)


def _extent(place: Placement, shape: tuple[int, ...], cell: float | None) -> Extent:
    """Return where the edges of a map over the input lie in the source."""
    first_row, first_column, last_row, last_column = place.box
    fitted, inside = place.fitted, place.inside
    covered = [place.size if cell is None else cell * count for count in shape]
    sides = ((first_row, last_row - first_row), (first_column, last_column - first_column))
    edges = []
    for axis, (first, length) in enumerate(sides):
        scale = length / fitted[axis]
        before = first - inside[axis].start * scale
        edges.append((before, before + covered[axis] * scale))
    # Rounded, so that a map that was stored is drawn as it was before.
    top, bottom, left, right = (round(edge, 4) for pair in edges for edge in pair)
    return top, left, bottom, right
