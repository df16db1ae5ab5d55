"""Where the lungs are in a frontal chest radiograph, found without a trained network.

Lungs are darker than what is around them. A pair of lung outlines, each with its own place, width
and height, is laid over a small picture of local darkness in every way that occurs; the pair whose
inside is darkest against its surroundings, and which is about as even as lungs are, is taken. The
result is a box to crop to, so that a reader of lungs spends its pixels there.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Rows and columns of the picture of darkness. The outlines are no more exact than its pixels.
_GRID = 48
# Darkness is relative to a neighbourhood of this share of the picture: exposure, and the fading
# towards an edge of the film, do not matter.
_REACH = 0.13
# Black margins and burned-in letters set neither end of the scale.
_TAILS = (2.0, 98.0)
# Width in pixels of the surroundings that a lung is compared with.
_RING = 4
# Candidates of each side that are tried together.
_KEPT = 60
# What size counts beside darkness: without it a pair of small dark parts of lungs would do.
_LARGE = 2.0
# A pair below this is no pair of lungs: it refuses 16 of 1,243 films of two hospitals, and noise
# reaches 1.3.
_LEAST_SCORE = 1.45
# Room around the outlines, as a share of the box: what is crossed by a finding must be inside.
_MARGIN = 0.09


@dataclass(frozen=True, slots=True)
class Outline:
    """One lung; everything as a share of the picture's width or height.

    Attributes
    ----------
    left : bool
        Whether it is the patient's left lung, on the right of the picture.
    medial, width : float
        x of its medial border, and how far it reaches from there to the side.
    top, bottom : float
        y of the apex and of the lateral costophrenic angle.
    """

    left: bool
    medial: float
    width: float
    top: float
    bottom: float

    def places(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return (across, down): 0 medial to 1 lateral, 0 at the apex to 1 at the base."""
        across = (x - self.medial) / (self.width if self.left else -self.width)
        return across, (y - self.top) / (self.bottom - self.top)

    def inside(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Return which places are in the lung; of the shape of `x` and `y` broadcast."""
        return _inside(*self.places(x, y), self.left)


def _inside(across: Floats, down: Floats, left: bool) -> NDArray[np.bool_]:
    """Return which places, as of `Outline.places`, are in a lung; broadcast."""
    t = np.clip(down, 0.0, 1.0)
    shoulder = (1.0 - np.clip(1.0 - t / 0.45, 0.0, 1.0) ** 2.2) ** (1 / 2.2)
    lateral = shoulder * (0.86 + 0.14 * t)
    # At the top the mediastinum, low on the left the heart.
    medial = 0.12 * np.clip(1.0 - t / 0.3, 0.0, 1.0)
    if left:
        medial = medial + 0.8 * np.clip(t - 0.5, 0.0, 0.5)
    base = 1.0 - 0.16 * np.clip(1.0 - across, 0.0, 1.0) ** 2
    found = (down > 0) & (down < base) & (across > medial) & (across < lateral)
    return np.asarray(found, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class LungPair:
    """Both lungs of a film.

    Attributes
    ----------
    right, left : Outline
        The patient's right lung stands on the left of the picture.
    score : float
        How much darker than their surroundings, less what is uneven about them.
    """

    right: Outline
    left: Outline
    score: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Top, left, bottom, right of both together, as shares of the picture."""
        return (
            min(self.right.top, self.left.top),
            self.right.medial - self.right.width,
            max(self.right.bottom, self.left.bottom),
            self.left.medial + self.left.width,
        )


def make_ready() -> None:
    """Make the outlines of both sides, which the first film would wait for."""
    for left in (False, True):
        _library(left)


def lung_box(values: Floats) -> tuple[int, int, int, int] | None:
    """Return the box around both lungs of a frontal chest radiograph.

    Parameters
    ----------
    values : ndarray of float32, (rows, columns)
        Modality values with tissue and bone high, as in MONOCHROME2.

    Returns
    -------
    tuple of int or None
        Top, left, bottom, right in pixels of `values`, the latter two exclusive, with a margin; as
        near to square as the film allows. None where nothing looks like a pair of lungs: the
        whole picture is then the best there is.
    """
    pair = find_lungs(values)
    return None if pair is None else around(pair, *values.shape)


def find_lungs(values: Floats) -> LungPair | None:
    """Return the outlines of both lungs; None where nothing looks like a pair of lungs.

    Parameters
    ----------
    values : ndarray of float32, (rows, columns)
        Modality values with tissue and bone high.
    """
    if min(values.shape) < _GRID:
        return None
    dark = darkness(values)
    if dark is None:
        return None
    pair = _best_pair(dark.ravel())
    return pair if pair.score >= _LEAST_SCORE else None


def around(pair: LungPair, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Return the box of `pair` in pixels, with its margin and as near to square as fits."""
    top, left, bottom, right = pair.box
    top, bottom, left, right = top * rows, bottom * rows, left * columns, right * columns
    side = (1 + 2 * _MARGIN) * max(bottom - top, right - left)
    down, across = (top + bottom) / 2, (left + right) / 2
    first_row, last_row = _span(down, side, rows)
    first_column, last_column = _span(across, side, columns)
    return first_row, first_column, last_row, last_column


def darkness(values: Floats) -> Floats | None:
    """Return how dark each part is against its neighbourhood, -2 to 2, shape (48, 48).

    None for a picture without contrast.
    """
    small = _area_means(values, _GRID)
    low, high = np.percentile(small, _TAILS)
    if not high > low:
        return None
    small = np.clip((small - low) / (high - low), 0.0, 1.0)
    small = _smoothed(small, 0.01 * _GRID)
    mean = _smoothed(small, _REACH * _GRID)
    spread = np.sqrt(np.clip(_smoothed(np.square(small - mean), _REACH * _GRID), 0.0, None))
    return np.asarray(np.clip((mean - small) / (spread + 0.03), -2.0, 2.0), dtype=np.float32)


def _span(middle: float, length: float, limit: int) -> tuple[int, int]:
    """Return whole pixels around `middle`, moved and shortened to lie within 0 to `limit`."""
    length = min(length, float(limit))
    start = min(max(middle - length / 2, 0.0), limit - length)
    return math.floor(start), min(limit, math.ceil(start + length))


def _area_means(values: Floats, count: int) -> NDArray[np.float64]:
    """Return the means of `count` x `count` parts of a picture."""
    result = values.astype(np.float64)
    for axis in (0, 1):
        edges = np.linspace(0, result.shape[axis], count + 1).astype(int)
        shape = (-1, 1) if axis == 0 else (1, -1)
        result = np.add.reduceat(result, edges[:-1], axis=axis) / np.diff(edges).reshape(shape)
    return result


def _smoothed(picture: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return a square picture under a Gaussian that is renormalised at the edges."""
    places = np.arange(len(picture))
    weights = np.exp(-0.5 * np.square((places[:, None] - places) / sigma))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(weights @ picture @ weights.T, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Library:
    """All outlines of one side.

    Attributes
    ----------
    contrast : ndarray of float32, (n, 48 * 48)
        Times a picture of darkness: mean inside less mean in a ring around.
    shapes : ndarray of float32, (n, 5)
        Medial, width, top, bottom, area.
    """

    outlines: tuple[Outline, ...]
    contrast: Floats
    shapes: Floats


@functools.cache
def _library(left: bool) -> _Library:
    centre = ((np.arange(_GRID) + 0.5) / _GRID).astype(np.float32)
    outlines = _outlines(left)
    inside = _insides(outlines, centre)
    ring = _grown(inside, _RING) & ~inside
    areas, around = (one.sum(axis=(1, 2), keepdims=True) for one in (inside, ring))
    of_inside, of_ring = ((1.0 / n).astype(np.float32) for n in (areas, around))
    contrast = np.where(inside, of_inside, np.where(ring, -of_ring, np.float32(0.0)))
    shapes = [
        (outline.medial, outline.width, outline.top, outline.bottom, float(area) / _GRID**2)
        for outline, area in zip(outlines, areas.ravel(), strict=True)
    ]
    return _Library(
        outlines=tuple(outlines),
        contrast=contrast.reshape(len(outlines), -1),
        shapes=np.asarray(shapes, dtype=np.float32),
    )


def _outlines(left: bool) -> list[Outline]:
    found = []
    for medial in (0.34, 0.38, 0.42, 0.45, 0.48, 0.51):
        for width in (0.20, 0.24, 0.28, 0.32, 0.36, 0.40):
            if medial - width < 0.01:
                continue
            for top in (0.01, 0.05, 0.09, 0.13, 0.17, 0.22, 0.27):
                for bottom in (0.52, 0.58, 0.64, 0.70, 0.76, 0.82, 0.88, 0.94):
                    if bottom - top >= 0.38:
                        at = 1.0 - medial if left else medial
                        found.append(Outline(left, at, width, top, bottom))
    return found


def _insides(outlines: list[Outline], centre: Floats) -> NDArray[np.bool_]:
    """Return which places of the grid are in each outline, (n, rows, columns).

    All are combinations of some places across with some down, of which each is computed once.
    """
    wide = {(one.medial, one.width): one for one in outlines}
    high = {(one.top, one.bottom): one for one in outlines}
    across = np.stack([one.places(centre, centre)[0] for one in wide.values()])
    down = np.stack([one.places(centre, centre)[1] for one in high.values()])
    every = _inside(across[:, None, None, :], down[None, :, :, None], outlines[0].left)
    assert len(outlines) == len(wide) * len(high), "each width with each height"
    return every.reshape(len(outlines), len(centre), len(centre))


def _grown(masks: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Return masks, (n, rows, columns), with all that is at most `pixels` steps away."""
    grown = masks.copy()
    for _ in range(pixels):
        before = grown.copy()
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
        grown[:, :, 1:] |= before[:, :, :-1]
        grown[:, :, :-1] |= before[:, :, 1:]
    return grown


def _best_pair(dark: Floats) -> LungPair:
    """Return the best pair of outlines: dark inside, large, and about as even as lungs are."""
    sides = [_library(False), _library(True)]
    scores = [side.contrast @ dark + _LARGE * side.shapes[:, 4] for side in sides]
    kept = [np.argsort(-score, kind="stable")[:_KEPT] for score in scores]
    right, left = (side.shapes[rows] for side, rows in zip(sides, kept, strict=True))
    total = scores[0][kept[0]][:, None] + scores[1][kept[1]][None, :]
    gap = left[None, :, 0] - right[:, None, 0]
    for column, weight in ((1, 1.0), (2, 1.5), (3, 0.8)):
        total = total - weight * np.abs(right[:, None, column] - left[None, :, column])
    total = total - 3.0 * (gap < 0.04)
    best = np.unravel_index(int(np.argmax(total)), total.shape)
    return LungPair(
        right=sides[0].outlines[int(kept[0][best[0]])],
        left=sides[1].outlines[int(kept[1][best[1]])],
        score=float(total[best]),
    )
