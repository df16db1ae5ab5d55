"""Chest radiograph phantoms, with and without a pneumothorax."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .fields import FloatArray, SmoothField, between, blurred, chance, logistic, noise_image, ridge
from .thorax import Canvas, Lung, Thorax, opacities, vessels


@dataclass(frozen=True, slots=True)
class Pneumothorax:
    """Air in the pleural space of one lung, which has shrunk towards its hilum.

    Attributes
    ----------
    side : int
        -1 the patient's right, 1 the left.
    apical, lateral : float
        How far the lung has come down from the apex and in from the side; shares of its size.
    line : float
        Attenuation of the visceral pleura seen on edge.
    clearing : float
        How much blacker the air is than lung.
    """

    side: int
    apical: float
    lateral: float
    line: float
    clearing: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: float = 0.0) -> Pneumothorax:
        """Draw a pneumothorax; `size` 0 draws small and large ones, 1 only large ones."""
        low = 0.08 + 0.2 * size
        return cls(
            side=1 if chance(rng, 0.5) else -1,
            apical=between(rng, low, 0.45),
            lateral=between(rng, 0.3 * low, 0.4) if chance(rng, 0.7 + 0.3 * size) else 0.02,
            line=between(rng, 0.03 + 0.03 * size, 0.12),
            clearing=between(rng, 0.01 + 0.03 * size, 0.1),
        )

    def collapsed(self, lung: Lung) -> Lung:
        """Return the outline of what is left of `lung`."""
        width, height = lung.outer - lung.inner, lung.base - lung.apex
        return replace(
            lung,
            outer=lung.outer - self.lateral * width,
            apex=lung.apex + self.apical * height,
            wobble=(lung.wobble[0] + 0.02, lung.wobble[1]),
        )


@dataclass(frozen=True, slots=True)
class Chest:
    """A chest radiograph phantom.

    Attributes
    ----------
    seed : int
        The same seed gives the same chest and the same noise, with or without a pneumothorax.
    """

    seed: int
    thorax: Thorax

    @classmethod
    def draw(cls, seed: int) -> Chest:
        """Draw the chest of `seed`."""
        return cls(seed, Thorax.draw(np.random.default_rng([seed, 1])))

    def radiograph(self, size: int, pneumothorax: Pneumothorax | None = None) -> FloatArray:
        """Return the picture (size, size), 0 to 1, tissue and bone high."""
        canvas = Canvas.square(size)
        placed = self.thorax.placed(canvas)
        rng = np.random.default_rng([self.seed, 2])
        value = self.thorax.soft_tissue(placed)
        aeration = between(rng, 0.32, 0.52)
        vascular = between(rng, 0.04, 0.16)
        for lung in self.thorax.lungs:
            marks = vascular * vessels(rng, lung, size) + 0.02 * _grain(rng, canvas)
            here = pneumothorax if pneumothorax and pneumothorax.side == lung.side else None
            value = value - _air(lung, placed, aeration, marks, here)
        heart = self.thorax.heart_shadow(placed)
        value = np.maximum(value, heart * between(rng, 0.62, 0.8) + value * (1 - heart))
        value = value + self.thorax.ribs(placed) + opacities(rng, placed)
        value = value + decoys(rng, placed)
        return _detected(rng, value)

    def free_air(self, size: int, pneumothorax: Pneumothorax) -> NDArray[np.bool_]:
        """Return where the picture of the same `size` shows air outside the lung, (size, size)."""
        placed = self.thorax.placed(Canvas.square(size))
        lung = next(one for one in self.thorax.lungs if one.side == pneumothorax.side)
        remaining = pneumothorax.collapsed(lung).margin(placed.x, placed.y)
        return np.asarray((lung.margin(placed.x, placed.y) > 0) & (remaining < 0), dtype=np.bool_)


def _grain(rng: np.random.Generator, canvas: Canvas) -> FloatArray:
    """Return the fine texture of lung."""
    field = SmoothField.draw(rng, 0.035, (0.1, 2.2, 2.2))
    return field.plane(0.0, canvas.y[:, 0], canvas.x[0])


def _air(
    lung: Lung,
    canvas: Canvas,
    aeration: float,
    marks: FloatArray,
    pneumothorax: Pneumothorax | None,
) -> FloatArray:
    """Return what the air of one side takes away from attenuation."""
    cavity = lung.margin(canvas.x, canvas.y)
    # Towards its border the lung is thinner, hence brighter.
    inside = logistic(cavity * 90) * (1 - 0.35 * np.exp(-np.clip(cavity, 0, None) / 0.09))
    if pneumothorax is None:
        return np.asarray(inside * (aeration - marks), dtype=np.float32)
    left = pneumothorax.collapsed(lung).margin(canvas.x, canvas.y)
    tissue = logistic(left * 160)
    # Only where the pleura has left the wall is there a line.
    apart = logistic((cavity - np.clip(left, 0, None) - 0.02) * 150) * (left > -0.05)
    line = pneumothorax.line * ridge(left, 0.0055) * apart
    free = (1 - tissue) * pneumothorax.clearing
    return np.asarray(
        inside * (aeration - marks * tissue + free) - line * logistic(cavity * 90),
        dtype=np.float32,
    )


def decoys(rng: np.random.Generator, canvas: Canvas) -> FloatArray:
    """Return lines and edges that are no pleura: skin folds, scapulae, tubes, electrodes."""
    total = np.zeros(canvas.x.shape, np.float32)
    for side in (-1, 1):
        if chance(rng, 0.45):  # the medial border of the scapula: an edge, brighter outside
            border = between(rng, 0.5, 0.85) + between(rng, -0.2, 0.1) * canvas.y
            upper = logistic((between(rng, -0.1, 0.15) - canvas.y) * 14)
            edge = logistic((side * canvas.x - border) * between(rng, 40, 120))
            total += between(rng, 0.02, 0.09) * edge * upper
        if chance(rng, 0.3):  # a skin fold: fades inwards from a sharp edge, markings go on
            border = between(rng, 0.3, 0.75) + between(rng, -0.3, 0.3) * canvas.y
            inwards = border - side * canvas.x
            fold = np.exp(-np.clip(inwards, 0, None) / between(rng, 0.05, 0.2)) * (inwards > 0)
            extent = logistic((canvas.y + between(rng, 0.1, 0.9)) * 20)
            total += between(rng, 0.02, 0.08) * fold * extent
        if chance(rng, 0.4):  # breast
            x, y = side * between(rng, 0.35, 0.5), between(rng, 0.25, 0.5)
            radius = np.hypot((canvas.x - x) / 0.35, (canvas.y - y) / 0.32)
            total += between(rng, 0.03, 0.12) * logistic((1 - radius) * between(rng, 8, 30))
    return total + _devices(rng, canvas.x.shape[0])


def _devices(rng: np.random.Generator, size: int) -> FloatArray:
    """Return tubes, wires and electrodes, each a curve or a disc."""
    picture = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 5)) if chance(rng, 0.5) else 0):
        corners = rng.uniform(0, size, (3, 2))
        steps = np.linspace(0, 1, 24)[:, None]
        curve = (1 - steps) ** 2 * corners[0] + 2 * steps * (1 - steps) * corners[1]
        curve = curve + steps**2 * corners[2]
        points = [(float(x), float(y)) for x, y in curve]
        width = max(1, round(between(rng, 0.002, 0.008) * size))
        pen.line(points, fill=int(between(rng, 20, 120)), width=width)
        if chance(rng, 0.4):
            x, y = points[-1]
            radius = between(rng, 0.008, 0.02) * size
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=140)
    return blurred(np.asarray(picture, dtype=np.float32) / 255, size / 700)


def _detected(rng: np.random.Generator, value: FloatArray) -> FloatArray:
    """Return what a detector and its processing make of attenuation."""
    size = value.shape[0]
    value = blurred(value, between(rng, 0.3, 1.6) * size / 512)
    if chance(rng, 0.6):  # edge enhancement
        amount, reach = between(rng, 0.2, 1.2), between(rng, 1, 6) * size / 512
        value = value + amount * (value - blurred(value, reach))
    grain = noise_image(rng, (size, size), between(rng, 0.3, 0.9) * size / 512)
    value = value + between(rng, 0.003, 0.02) * grain
    low, high = between(rng, 0.0, 0.25), between(rng, 0.85, 1.15)
    value = np.clip((value - low) / (high - low), 0, 1) ** between(rng, 0.7, 1.5)
    if chance(rng, 0.4):  # a side marker
        picture = Image.new("L", (size, size), 0)
        place = (between(rng, 0.03, 0.9) * size, between(rng, 0.02, 0.15) * size)
        letter = "L" if place[0] > size / 2 else "R"
        ImageDraw.Draw(picture).text(place, letter, fill=255, font_size=math.ceil(0.05 * size))
        value = np.maximum(value, np.asarray(picture, dtype=np.float32) / 255)
    return np.asarray(value, dtype=np.float32)
