"""The chest of a radiograph phantom: outlines of lungs, heart, ribs and the lines between them.

Coordinates: x from -1 (the patient's right, left in the picture) to 1, y from -1 (top) to 1. Values
are attenuation: bone and heart high, air low, as in MONOCHROME2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .fields import FloatArray, between, blurred, chance, logistic, ridge

SIDES = (-1, 1)


@dataclass(frozen=True, slots=True)
class Canvas:
    """The pixel grid: x and y of every pixel, shape (size, size)."""

    x: FloatArray
    y: FloatArray

    @classmethod
    def square(cls, size: int) -> Canvas:
        """Return a grid of `size` pixels a side."""
        places = np.linspace(-1, 1, size, dtype=np.float32)
        x, y = np.meshgrid(places, places)
        return cls(x, y)

    @property
    def size(self) -> int:
        """Pixels a side."""
        return len(self.x)


@dataclass(frozen=True, slots=True)
class Lung:
    """The outline of one lung.

    Attributes
    ----------
    side : int
        -1 the patient's right, 1 the left.
    inner, outer : float
        Distance of the mediastinal and the lateral border from the midline.
    apex, base : float
        y of the top and of the lateral base.
    dome : float
        How far the diaphragm rises above the base.
    fullness : float
        Exponent of the outline: 2 an ellipse, more a box.
    """

    side: int
    inner: float
    outer: float
    apex: float
    base: float
    dome: float
    fullness: float
    wobble: tuple[float, float]

    @property
    def hilum(self) -> tuple[float, float]:
        """Where vessels and bronchi enter."""
        return self.side * (self.inner + 0.06), 0.5 * (self.apex + self.base) + 0.02

    def margin(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the distance inwards from the outline, negative outside."""
        across = self.side * x
        middle = 0.5 * (self.inner + self.outer)
        half = 0.5 * (self.outer - self.inner)
        amplitude, phase = self.wobble
        half = half * (1 + amplitude * np.sin(3 * y + phase))
        # The lung is widest low down, and its top is round.
        height = np.clip((self.base - y) / (self.base - self.apex), 0, 1)
        width = half * np.power(1 - np.power(height, self.fullness), 1 / self.fullness)
        sideways = width - np.abs(across - middle + 0.12 * (1 - height) * half)
        bottom = self.base - self.dome * (1 - np.square((across - middle) / (1.2 * half)))
        inside = np.minimum(np.minimum(sideways, bottom - y), y - self.apex)
        return np.asarray(inside, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Thorax:
    """The large structures of one chest."""

    lungs: tuple[Lung, Lung]
    heart: tuple[float, float, float, float]
    mediastinum: float
    wall: float
    rib_offset: float
    rib_pitch: float
    rib_slope: float
    rib_width: float
    rib_strength: float
    bone: float
    turn: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Thorax:
        """Draw the chest of an adult, as well or as badly centred as films are."""
        apex, base = between(rng, -0.88, -0.66), between(rng, 0.4, 0.72)
        outer = between(rng, 0.62, 0.9)
        fullness = between(rng, 2.2, 3.6)
        lungs = tuple(
            Lung(
                side=side,
                inner=between(rng, 0.05, 0.12),
                outer=outer * between(rng, 0.94, 1.04),
                apex=apex + between(rng, -0.03, 0.03),
                base=base + between(rng, -0.05, 0.05),
                dome=between(rng, 0.08, 0.24),
                fullness=fullness,
                wobble=(between(rng, 0, 0.03), between(rng, 0, 6)),
            )
            for side in SIDES
        )
        heart = (
            between(rng, 0.04, 0.14),
            base - between(rng, 0.22, 0.36),
            between(rng, 0.2, 0.36),
            between(rng, 0.2, 0.34),
        )
        return cls(
            lungs=(lungs[0], lungs[1]),
            heart=heart,
            mediastinum=between(rng, 0.08, 0.15),
            wall=between(rng, 0.05, 0.25),
            rib_offset=between(rng, 0, 1),
            rib_pitch=between(rng, 0.15, 0.2),
            rib_slope=between(rng, 0.1, 0.5),
            rib_width=between(rng, 0.022, 0.036),
            rib_strength=between(rng, 0.03, 0.14),
            bone=between(rng, 0.08, 0.25),
            turn=float(rng.normal(0, 0.03)),
        )

    def placed(self, canvas: Canvas) -> Canvas:
        """Return the chest coordinates of the pixels."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return Canvas(cos * canvas.x + sin * canvas.y, cos * canvas.y - sin * canvas.x)

    def soft_tissue(self, canvas: Canvas) -> FloatArray:
        """Return attenuation of everything but lungs and ribs."""
        x, y = canvas.x, canvas.y
        outer = max(lung.outer for lung in self.lungs) + self.wall
        neck = 0.28 + 1.6 * np.clip(y + 0.95, 0, None)
        armpit = logistic((y + 0.5) * 25)
        shoulders = np.minimum(neck, 1.5) * (1 - armpit) + (outer + 0.06 * y) * armpit
        body = logistic((shoulders - np.abs(x)) * 40)
        value = 0.72 * body
        value = value + 0.16 * ridge(x, self.mediastinum + 0.05 * np.clip(y, 0, None))
        value = value + self.bone * self._spine(x, y)
        abdomen = 0.5 * (self.lungs[0].base + self.lungs[1].base)
        return np.asarray(value + 0.12 * logistic((y - abdomen + 0.1) * 12), dtype=np.float32)

    def _spine(self, x: FloatArray, y: FloatArray) -> FloatArray:
        column = logistic((0.065 - np.abs(x)) * 90)
        discs = 0.75 + 0.25 * np.cos(2 * math.pi * (y / 0.13 + self.rib_offset))
        return np.asarray(column * discs, dtype=np.float32)

    def heart_shadow(self, canvas: Canvas) -> FloatArray:
        """Return the share of heart and aortic arch in every pixel."""
        cx, cy, half_width, half_height = self.heart
        radius = np.hypot((canvas.x - cx) / half_width, (canvas.y - cy) / half_height)
        arch = np.hypot((canvas.x - 0.1) / 0.1, (canvas.y - cy + 0.48) / 0.11)
        heart = np.maximum(logistic((1 - radius) * 24), 0.7 * logistic((1 - arch) * 12))
        return np.asarray(heart, dtype=np.float32)

    def ribs(self, canvas: Canvas) -> FloatArray:
        """Return attenuation of posterior and anterior ribs and of the clavicles."""
        across = np.abs(canvas.x)
        edge = max(lung.outer for lung in self.lungs) + 0.4 * self.wall
        within = logistic((edge - across) * 60) * logistic((across - 0.05) * 60)
        posterior = self._bands(canvas.y - self.rib_slope * np.square(across) / edge, 0.0)
        anterior = self._bands(canvas.y + 0.9 * self.rib_slope * (across - 0.4), 0.5)
        anterior = 0.55 * anterior * logistic((across - 0.32) * 30)
        chest = logistic((0.62 - canvas.y) * 14) * logistic((canvas.y + 0.98) * 14)
        ribs = self.rib_strength * (posterior + anterior) * within * chest
        return np.asarray(ribs + self._clavicles(canvas), dtype=np.float32)

    def _bands(self, along: FloatArray, shift: float) -> FloatArray:
        """Return ribs as bands with brighter rims."""
        phase = along / self.rib_pitch + self.rib_offset + shift
        distance = (phase - np.rint(phase)) * self.rib_pitch / self.rib_width
        inside = logistic((1 - np.abs(distance)) * 6)
        return np.asarray(inside * (0.65 + 0.35 * np.square(distance)), dtype=np.float32)

    def _clavicles(self, canvas: Canvas) -> FloatArray:
        across = np.abs(canvas.x)
        apex = min(lung.apex for lung in self.lungs)
        middle = apex + 0.2 - 0.3 * across + 0.08 * np.sin(5 * across)
        band = logistic((0.03 - np.abs(canvas.y - middle)) * 120)
        extent = logistic((across - 0.08) * 50) * logistic((0.78 - across) * 30)
        return np.asarray(1.4 * self.rib_strength * band * extent, dtype=np.float32)


def vessels(rng: np.random.Generator, lung: Lung, size: int) -> FloatArray:
    """Return branching vessels of one lung, 0 to 1, for a picture of `size` pixels a side."""
    picture = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(picture)
    scale = size / 2

    def branch(x: float, y: float, angle: float, length: float, width: float, order: int) -> None:
        bend = angle + float(rng.normal(0, 0.15))
        end_x, end_y = x + length * math.cos(bend), y + length * math.sin(bend)
        fill = int(min(255, 60 + 5200 * width))
        ends = ((x + 1) * scale, (y + 1) * scale, (end_x + 1) * scale, (end_y + 1) * scale)
        pen.line(ends, fill=fill, width=max(1, round(width * scale)))
        if order == 0:
            return
        for turn in (-1, 1):
            spread = bend + turn * between(rng, 0.15, 0.65)
            shorter = length * between(rng, 0.65, 0.95)
            branch(end_x, end_y, spread, shorter, width * 0.7, order - 1)

    trunks = int(rng.integers(6, 10))
    for trunk in range(trunks):
        angle = (trunk / trunks - 0.5) * 2.9 + float(rng.normal(0, 0.15))
        direction = angle if lung.side > 0 else math.pi - angle
        width = between(rng, 0.014, 0.03)
        branch(*lung.hilum, direction, between(rng, 0.1, 0.17), width, 4)
    drawn = np.asarray(picture, dtype=np.float32) / 255
    return blurred(drawn, size / 512)


def opacities(rng: np.random.Generator, canvas: Canvas) -> FloatArray:
    """Return what may lie over any chest: consolidation, effusion, atelectasis; attenuation."""
    total = np.zeros(canvas.x.shape, np.float32)
    for _ in range(int(rng.integers(0, 4)) if chance(rng, 0.5) else 0):
        x, y = between(rng, -0.7, 0.7), between(rng, -0.5, 0.6)
        width, height = between(rng, 0.05, 0.35), between(rng, 0.05, 0.3)
        blob = ridge(np.hypot((canvas.x - x) / width, (canvas.y - y) / height), 1.0)
        total += between(rng, 0.03, 0.25) * blob
    if chance(rng, 0.2):
        side = 1 if chance(rng, 0.5) else -1
        level = between(rng, 0.25, 0.6) - 0.25 * np.clip(side * canvas.x, 0, None)
        total += between(rng, 0.1, 0.35) * logistic((canvas.y - level) * 14) * (side * canvas.x > 0)
    return total
