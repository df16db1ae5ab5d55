"""What a CT scanner adds to a phantom: blur, noise, streaks, limits of the stored values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .fields import FloatArray, between, blurred, chance, noise_image

LOWEST_HU, HIGHEST_HU = -1024, 3071


@dataclass(frozen=True, slots=True)
class Scanner:
    """How a series was acquired.

    Attributes
    ----------
    blur, grain : float
        Standard deviation of the kernel and of the noise's texture, in mm.
    noise : float
        Standard deviation in HU at 1 mm pixels.
    offset, gain : float
        Miscalibration: HU are multiplied by `gain`, then `offset` is added.
    streak : float
        Height of dark and bright bands across the head, in HU.
    """

    blur: float
    noise: float
    grain: float
    offset: float
    gain: float
    streak: float
    streak_angle: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scanner:
        """Draw a scanner and protocol."""
        return cls(
            blur=between(rng, 0.25, 0.9),
            noise=between(rng, 0.8, 4.5),
            grain=between(rng, 0.3, 0.9),
            offset=between(rng, -2.5, 2.5),
            gain=between(rng, 0.95, 1.05),
            streak=between(rng, 1, 5) if chance(rng, 0.15) else 0.0,
            streak_angle=between(rng, 0, math.pi),
        )

    def acquire(
        self, hu: FloatArray, spacing: float, rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """Return what is stored for a noise-free slice `hu` (height, width) of `spacing` mm."""
        image = blurred(hu, self.blur / spacing)
        image = image * self.gain + self.offset * (image > -500)
        noise = noise_image(rng, (hu.shape[0], hu.shape[1]), self.grain / spacing)
        image = image + self.noise / math.sqrt(spacing) * noise * np.where(image > -500, 1.0, 0.5)
        if self.streak:
            rows, columns = np.indices(hu.shape, dtype=np.float32)
            across = math.cos(self.streak_angle) * columns + math.sin(self.streak_angle) * rows
            wave = np.sin((across - across.mean()) * spacing / 4) * (image > -500)
            image = image + self.streak * wave
        return np.clip(np.rint(image), LOWEST_HU, HIGHEST_HU).astype(np.int16)
