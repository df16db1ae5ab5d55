"""Heads and chests that do not exist: procedural, seeded, with known answers.

They feed training, tests and the demonstration. Each can be drawn with and without its finding from
the same seed, everything else being equal.
"""

from .bleeds import Bleed, BleedType, draw_bleed
from .chest import Chest, Pneumothorax
from .head import Head
from .scanner import Scanner
from .skull import Grid

__all__ = ["Bleed", "BleedType", "Chest", "Grid", "Head", "Pneumothorax", "Scanner", "draw_bleed"]
