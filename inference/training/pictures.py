"""What becomes of CT slices on their way to a reader: windows of 8 bits, scaling, JPEG, letters.

Many heads reach a network as pictures: captured from a screen, exported, sent by a phone. All of it
is drawn at random, whether the slice bleeds or not, so that none of it says anything.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .phantoms.fields import FloatArray, between, blurred, chance

# Greys of a picture are read as a brain window of 0 to 80 HU: see `inference.pixels`.
WHITE_HU = 80.0
_LETTERS = tuple("ABCDEFLRSabm0123456789+-:/")


def vary(rng: np.random.Generator, hu: NDArray[np.int16], picture_share: float = 0.8) -> FloatArray:
    """Return a slice as a reader may get it.

    Parameters
    ----------
    rng : numpy.random.Generator
    hu : ndarray of int16, (rows, columns)
    picture_share : float
        How often (0 to 1) it has been a picture of 8 bits; what is left stays in HU.

    Returns
    -------
    ndarray of float32, (rows, columns)
        HU; of a picture its greys times 80.
    """
    slice_ = hu.astype(np.float32)
    if chance(rng, picture_share):
        return np.asarray(_degraded(rng, _windowed(rng, slice_)) * WHITE_HU, dtype=np.float32)
    brain = np.abs(slice_) < 100
    slice_ = np.where(brain, slice_ * between(rng, 0.93, 1.07) + between(rng, -4, 4), slice_)
    if chance(rng, 0.3):
        slice_ = blurred(slice_, between(rng, 0.3, 0.9))
    return np.asarray(slice_, dtype=np.float32)


def _windowed(rng: np.random.Generator, hu: FloatArray) -> FloatArray:
    """Return greys of 0 to 1 under some window: mostly that of the brain, sometimes a wide one."""
    if chance(rng, 0.82):
        width = between(rng, 60, 125)
        centre = between(rng, 26, 48) if chance(rng, 0.8) else between(rng, 48, 62)
    else:
        width, centre = between(rng, 125, 240), between(rng, 30, 90)
    grey = np.clip((hu - centre) / width + 0.5, 0, 1)
    if chance(rng, 0.4):
        grey = grey ** between(rng, 0.75, 1.3)
    if chance(rng, 0.25):
        grey = grey * between(rng, 0.8, 1.0)
    if chance(rng, 0.15):
        black = between(rng, 0, 0.12)
        grey = grey * (1 - black) + black
    if chance(rng, 0.1):
        grey = np.clip(grey * between(rng, 1.0, 1.15), 0, 1)
    return np.asarray(grey, dtype=np.float32)


def _degraded(rng: np.random.Generator, grey: FloatArray) -> FloatArray:
    if chance(rng, 0.6):
        grey = _rescaled(rng, grey)
    if chance(rng, 0.25):
        grey = blurred(grey, between(rng, 0.3, 1.1))
    if chance(rng, 0.2):
        grey = grey + between(rng, 0.2, 1.2) * (grey - blurred(grey, 1.0))
    picture = Image.fromarray(np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8))
    if chance(rng, 0.35):
        _annotate(rng, picture)
    if chance(rng, 0.5):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(between(rng, 25, 92)))
        picture = Image.open(file)
    grey = np.asarray(picture, dtype=np.float32) / 255
    if chance(rng, 0.3):
        noise = rng.standard_normal(grey.shape, dtype=np.float32)
        grey = np.clip(grey + noise * np.float32(between(rng, 0.005, 0.03)), 0, 1)
    return grey


def _rescaled(rng: np.random.Generator, grey: FloatArray) -> FloatArray:
    """Return the picture as if it had been stored smaller and shown larger."""
    size = grey.shape[0]
    small = int(between(rng, 0.36, 0.76) * size)
    down = Image.Resampling.BOX if chance(rng, 0.5) else Image.Resampling.BICUBIC
    up = Image.Resampling.BICUBIC if chance(rng, 0.6) else Image.Resampling.BILINEAR
    picture = Image.fromarray(grey.astype(np.float32))
    return np.asarray(picture.resize((small, small), down).resize((size, size), up))


def _annotate(rng: np.random.Generator, picture: Image.Image) -> None:
    """Write letters and numbers, mostly along the edges, and sometimes a line, as of an arrow."""
    size, pen = picture.width, ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 4))):
        text = "".join(rng.choice(_LETTERS) for _ in range(int(rng.integers(1, 6))))
        along, across = between(rng, 0.01, 0.9) * size, between(rng, 0.0, 0.05) * size
        if chance(rng, 0.5):
            across = size - across - 0.06 * size
        place = (along, across) if chance(rng, 0.5) else (across, along)
        if chance(rng, 0.07):
            place = (between(rng, 0.1, 0.9) * size, between(rng, 0.1, 0.9) * size)
        font = ImageFont.load_default(size=int(between(rng, 0.03, 0.085) * size))
        pen.text(place, text, fill=int(between(rng, 120, 255)), font=font)
    if chance(rng, 0.15):
        x, y = (between(rng, 0.2, 0.6) * size for _ in range(2))
        angle, length = between(rng, 0, 6.28), between(rng, 0.04, 0.08) * size
        end = (x + length * float(np.cos(angle)), y + length * float(np.sin(angle)))
        pen.line([(x, y), end], fill=255, width=int(between(rng, 1, 4)))
