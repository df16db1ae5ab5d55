"""Pneumothoraces painted into real radiographs, and the same films without.

Every picture comes as a pair of twins: one film, one placement, one degradation, with the finding
and without. So that a network learns the disease and not the brush, each of its signs occurs alone
as well: free of markings without a line, a line with markings on both sides, one side darker, one
side whiter; and lines and edges that are no pleura lie over both twins alike.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from PIL import Image

from ..input_spec import InputSpec
from ..tensors import prepare_radiograph
from .chest_films import Film
from .collapse import Collapse, Shape, lay
from .phantoms import Chest, Pneumothorax
from .phantoms.chest import decoys
from .phantoms.fields import (
    FloatArray,
    SmoothField,
    between,
    blurred,
    chance,
    logistic,
    noise_image,
    ridge,
)
from .phantoms.thorax import Canvas

_CPU = torch.device("cpu")
# Of tries to lay a collapse into a film.
_TRIES = 6
# How much darker than its surroundings a lung must be, as a share of the contrast of the film.
_LEAST_CONTRAST = 0.12


@dataclass(frozen=True, slots=True)
class Twins:
    """Two pictures that differ in the finding alone.

    Attributes
    ----------
    images : ndarray of uint8, (2, size, size)
        With the finding, and without.
    air : ndarray of bool, (size, size)
        Where the first shows free air.
    """

    images: NDArray[np.uint8]
    air: NDArray[np.bool_]


def painted_twins(film: Film, rng: np.random.Generator, size: int) -> Twins | None:
    """Return a film with a painted pneumothorax and its twin; None where none can be laid in.

    Parameters
    ----------
    film : Film
        Without a pneumothorax.
    rng : numpy.random.Generator
    size : int
        Rows and columns of the input of the network.
    """
    pair = paint_pair(placed(film, rng, size), rng)
    if pair is None:
        return None
    present, absent, shape = pair
    contrast = _contrast(absent)
    extras = 0.7 * contrast * decoys(rng, Canvas.square(size)) if chance(rng, 0.5) else 0.0
    both = [present + extras, absent + extras]
    if chance(rng, 0.35):
        patch = _patch(rng, size)
        both = [_smudged(one, patch) for one in both]
    air = shape.air
    if chance(rng, 0.12):
        *both, air = _shifted([*both, air], rng)
    return Twins(degraded(both, rng, film.pixels), air > 0.5)


def paint_pair(
    layers: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, Shape] | None:
    """Return a picture with a pneumothorax, the same without, and where it is.

    Without means as it was or, in nearly half, with one of the signs alone. They differ nowhere
    but in and around one lung. None where no lung is seen well enough.

    Parameters
    ----------
    layers : ndarray of float32, (4, size, size)
        Of `placed`.
    rng : numpy.random.Generator
    """
    picture, plain, *depths = (np.ascontiguousarray(layer) for layer in layers)
    contrast = _contrast(picture)
    for _ in range(_TRIES):
        side = int(rng.integers(2))
        seen = _visible(plain, depths[side], contrast)
        shape = lay(Collapse.draw(rng), depths[side], 2 * side - 1, rng) if seen else None
        if shape is not None:
            break
    else:
        return None
    brush = _Brush.draw(rng, contrast)
    present = brush.paint(picture, plain, depths[side], shape)
    absent = picture
    if chance(rng, 0.45):
        absent = brush.paint_one_sign(picture, plain, depths[side], shape, rng)
    return present, absent, shape


def _contrast(picture: FloatArray) -> float:
    high, low = np.percentile(picture, (92, 8))
    return float(high - low)


def phantom_twins(seed: int, size: int) -> Twins:
    """Return a chest phantom with a pneumothorax and its twin, cropped to the lungs."""
    rng = np.random.default_rng([seed, 21])
    chest = Chest.draw(seed)
    finding = Pneumothorax.draw(rng, size=float(rng.choice((0.0, 0.5, 1.0))))
    whole = round(1.3 * size)
    box = _phantom_box(chest, rng)
    top, left, bottom, right = (round((edge + 1) / 2 * whole) for edge in box)
    cut = (slice(max(0, top), bottom), slice(max(0, left), right))
    films = [_resized(chest.radiograph(whole, one)[cut], size) for one in (finding, None)]
    air = _resized(chest.free_air(whole, finding)[cut].astype(np.float32), size) > 0.5
    mirrored = slice(None, None, -1 if chance(rng, 0.5) else 1)
    films = [film[:, mirrored] for film in films]
    return Twins(degraded(films, rng, size), np.ascontiguousarray(air[:, mirrored]))


def real_view(film: Film, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Return a film as it is, placed and degraded at random; (size, size)."""
    picture = placed(film, rng, size)[0]
    return np.asarray(degraded([picture], rng, film.pixels)[0], dtype=np.uint8)


def placed(film: Film, rng: np.random.Generator, size: int) -> FloatArray:
    """Return the layers of a film around its lungs, moved, turned, scaled and mirrored at random.

    Returns
    -------
    ndarray of float32, (4, size, size)
        As `Film.layers`; the lung on the left of the picture comes first.
    """
    top, left, bottom, right = film.box
    length = max(bottom - top, right - left) * between(rng, 0.88, 1.12)
    down = (top + bottom) / 2 + between(rng, -0.05, 0.05) * length
    across = (left + right) / 2 + between(rng, -0.05, 0.05) * length
    angle = float(rng.normal(0, 0.05))
    mirror = -1.0 if chance(rng, 0.5) else 1.0
    step = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    u, v = mirror * step[None, :] * length, step[:, None] * length
    x = across + math.cos(angle) * u - math.sin(angle) * v
    y = down + math.sin(angle) * u + math.cos(angle) * v
    rows, columns = film.layers.shape[-2:]
    grid = np.stack(np.broadcast_arrays(2 * x / columns - 1, 2 * y / rows - 1), axis=-1)
    source = torch.from_numpy(grid.astype(np.float32))[None]
    layers = film.layers.float()
    picked = F.grid_sample(layers, source, padding_mode="border", align_corners=False)[0]
    found = picked.numpy()
    # Beyond the film there is nothing.
    off = (np.abs(grid) > 1).any(axis=-1)
    found[:2, off] = 0
    return np.asarray(found if mirror > 0 else found[[0, 1, 3, 2]], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Brush:
    """How strong each sign is; values of the picture."""

    line: float
    width: float
    clearing: float
    emptying: float
    flattening: float
    density: float
    grain: float

    @classmethod
    def draw(cls, rng: np.random.Generator, contrast: float) -> _Brush:
        return cls(
            line=contrast * between(rng, 0.02, 0.22),
            width=between(rng, 0.6, 1.7),
            clearing=contrast * between(rng, 0.0, 0.16),
            emptying=between(rng, 0.8, 1.0),
            flattening=between(rng, 0.2, 0.9),
            density=contrast * between(rng, 0.0, 0.35),
            grain=between(rng, 0.2, 0.6),
        )

    def paint(
        self, picture: FloatArray, plain: FloatArray, depth: FloatArray, shape: Shape
    ) -> FloatArray:
        """Return the picture with everything: air, line, and a lung with its own markings."""
        painted = self.line_of(shape) + self.filled(picture, plain, depth, shape.air)
        markings = torch.from_numpy(picture - plain)[None, None]
        moved = F.grid_sample(markings, shape.source, padding_mode="border", align_corners=False)
        inside = plain + moved[0, 0].numpy()
        # What has shrunk holds less air.
        lost = 1.0 - float(shape.lung.sum()) / max(1.0, float((depth > 0).sum()))
        inside = inside + self.density * max(0.0, lost - 0.1) * (shape.lung > 0)
        return np.asarray(painted * (1 - shape.lung) + shape.lung * (inside + self.line_of(shape)))

    def line_of(self, shape: Shape) -> FloatArray:
        """Return the visceral pleura on edge, where it has left the wall."""
        apart = np.clip((shape.free - np.clip(shape.border, 0, None) - 2.0) / 3.0, 0, 1)
        near = np.clip(1 - np.abs(shape.border) / 8.0, 0, 1) > 0
        return np.asarray(self.line * ridge(shape.border, self.width) * apart * near, np.float32)

    def filled(
        self, picture: FloatArray, plain: FloatArray, depth: FloatArray, air: FloatArray
    ) -> FloatArray:
        """Return the picture where `air` takes the place of lung: no markings, and darker."""
        lung = np.clip(depth / 2, 0, 1)
        reach = len(picture) / 14
        low = blurred(plain * lung, reach) / (blurred(lung, reach) + 1e-3)
        inside = depth > 2
        dark = float(np.quantile(low[inside], 0.2)) if inside.any() else 0.0
        level = (1 - self.flattening) * low + self.flattening * np.minimum(low, dark)
        fine = picture - blurred(picture, 0.8)
        emptied = plain + (1 - self.emptying) * (picture - plain) + self.grain * fine
        emptied = emptied + (level - low) - self.clearing
        return np.asarray(picture * (1 - air) + air * emptied, dtype=np.float32)

    def paint_one_sign(
        self,
        picture: FloatArray,
        plain: FloatArray,
        depth: FloatArray,
        shape: Shape,
        rng: np.random.Generator,
    ) -> FloatArray:
        """Return the picture with one sign alone, which makes no pneumothorax."""
        sign = int(rng.integers(5))
        if sign == 0:  # a line, but markings go on beyond it
            return np.asarray(picture + self.line_of(shape), dtype=np.float32)
        if sign == 1:  # no markings and no line: a vague edge, as of a bulla or a blurred part
            soft = blurred(shape.air, len(picture) / 40)
            return self.filled(picture, plain, depth, soft)
        if sign == 2:  # darker alone: a turned patient, another breast
            soft = blurred((depth > 0).astype(np.float32), len(picture) / 25)
            return np.asarray(picture - 1.5 * self.clearing * soft, dtype=np.float32)
        if sign == 3:  # whiter alone, anywhere in one lung: consolidation, effusion
            places = np.arange(len(picture), dtype=np.float32) / len(picture)
            field = SmoothField.draw(rng, 0.15, (0.1, 1.2, 1.2)).plane(0.0, places, places)
            return np.asarray(
                picture + 2 * self.density * logistic(3 * field) * np.clip(depth / 8, 0, 1)
            )
        # A fold of skin: an edge that fades inwards, markings on both sides.
        inwards = np.clip(shape.border, 0, None)
        fold = np.exp(-inwards / (len(picture) * between(rng, 0.02, 0.1))) * (shape.border > 0)
        return np.asarray(picture + self.line * 0.8 * fold * (depth > -10), dtype=np.float32)


def degraded(
    pictures: Sequence[FloatArray], rng: np.random.Generator, pixels: float
) -> NDArray[np.uint8]:
    """Return twins as some film, scanner and archive show them, alike; (n, size, size) of bytes.

    Parameters
    ----------
    pictures : sequence of ndarray of float32, (size, size)
    rng : numpy.random.Generator
    pixels : float
        As many pixels a side the source has; coarse sources stay coarse.
    """
    size = len(pictures[0])
    finest = min(float(size), pixels)
    way = float(rng.random())
    resolution = finest
    if way < 0.35:
        resolution = min(finest, between(rng, 0.35, 1.0) * size)
    elif way < 0.5:
        resolution = min(finest, between(rng, 34, 64))
    gamma, low, high = between(rng, 0.65, 1.5), between(rng, -0.05, 0.1), between(rng, 0.9, 1.05)
    sharpen = between(rng, 0.2, 1.2) if chance(rng, 0.2) else 0.0
    blur = between(rng, 0.3, 1.2) if chance(rng, 0.3) else 0.0
    grain = noise_image(rng, (size, size), between(rng, 0, 0.8)) * between(rng, 0, 0.025)
    grain = grain * chance(rng, 0.5)
    quality = int(rng.integers(40, 95)) if chance(rng, 0.3) else 0
    spec = InputSpec("radiograph", size)
    done = []
    for picture in pictures:
        value = np.clip((picture - low) / (high - low), 0, 1) ** gamma
        value = blurred(value.astype(np.float32), blur)
        value = value + sharpen * (value - blurred(value, 3.0)) + grain
        if resolution < 0.97 * size:
            small = _resized(value, max(16, round(resolution)))
            value = _resized(small, size)
        if quality:
            value = _compressed(value, quality)
        prepared = prepare_radiograph(np.asarray(value, np.float32), spec, _CPU)[0, 0]
        done.append((prepared * 255).round().to(torch.uint8).numpy())
    return np.stack(done)


def _visible(plain: FloatArray, depth: FloatArray, contrast: float) -> bool:
    """Return whether a lung is darker than what is around it: else its outline is a guess."""
    inside, around = depth > 3, (depth < -3) & (depth > -0.08 * len(plain))
    if not inside.any() or not around.any():
        return False
    return float(plain[around].mean() - plain[inside].mean()) > _LEAST_CONTRAST * contrast


def _patch(rng: np.random.Generator, size: int) -> FloatArray:
    """Return vague patches anywhere, 0 to 1."""
    places = np.arange(size, dtype=np.float32) / size
    field = SmoothField.draw(rng, between(rng, 0.08, 0.2), (0.1, 1.2, 1.2))
    return logistic(between(rng, 4, 20) * (field.plane(0.0, places, places) - 0.7))


def _smudged(picture: FloatArray, patch: FloatArray) -> FloatArray:
    """Return `picture` without markings in patches that have no meaning."""
    plain = blurred(picture, 2.5) + 0.4 * (picture - blurred(picture, 0.8))
    return np.asarray(picture * (1 - patch) + patch * plain, dtype=np.float32)


def _shifted(pictures: Sequence[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
    """Return pictures whose middle is pushed to one side, as by rotation or scoliosis."""
    size = len(pictures[0])
    step = torch.linspace(-1 + 1 / size, 1 - 1 / size, size)
    y, x = torch.meshgrid(step, step, indexing="ij")
    push = between(rng, -0.1, 0.1) * torch.exp(-((x / 0.4) ** 2))
    grid = torch.stack([x + push, y], dim=-1)[None]
    stack = torch.from_numpy(np.stack(pictures).astype(np.float32))[None]
    moved = F.grid_sample(stack, grid, padding_mode="border", align_corners=False)[0]
    return [np.asarray(one, dtype=np.float32) for one in moved.numpy()]


def _phantom_box(chest: Chest, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return a box around the lungs of a phantom in its own coordinates, as even as a real one."""
    lungs = chest.thorax.lungs
    top, bottom = min(lung.apex for lung in lungs), max(lung.base for lung in lungs)
    half = 1.18 * max(bottom - top, 2 * max(lung.outer for lung in lungs)) / 2
    half *= between(rng, 0.9, 1.1)
    down = min((top + bottom) / 2 + between(rng, -0.08, 0.08), 1 - half) if half < 1 else 0.0
    half, across = min(half, 1.0), between(rng, -0.04, 0.04) if half < 0.95 else 0.0
    down = max(down, half - 1)
    return down - half, across - half, down + half, across + half


def _resized(picture: FloatArray, size: int) -> FloatArray:
    whole = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32))[None, None]
    resized = F.interpolate(
        whole, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return np.asarray(resized[0, 0].numpy(), dtype=np.float32)


def _compressed(picture: FloatArray, quality: int) -> FloatArray:
    data = io.BytesIO()
    Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8)).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data), dtype=np.float32) / 255
