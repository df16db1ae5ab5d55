"""What the painters paint, to look at: slices with their labels, and the blood outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..windows import BRAIN
from .painted_heads import KINDS, PaintedSlice, draw_slices
from .phantoms.backgrounds import SIZE, Background
from .pictures import vary

_LINE, _INK = (255, 90, 60), (255, 255, 255)
_COLUMNS = 6
# Of a mask's cells, from which share of blood on a cell belongs to it.
_HALF = 128


def write_gallery(
    out: Path,
    seeds: range,
    backgrounds: Sequence[Background] = (),
    *,
    as_pictures: bool = False,
    outlined: bool = True,
) -> int:
    """Write a sheet of painted slices as PNG.

    Parameters
    ----------
    out : Path
        The file.
    seeds : range
        Of `draw_slices`; a seed gives one or two slices.
    backgrounds : sequence of Background
        Real slices to paint on; with none all heads are drawn.
    as_pictures : bool
        Show what training makes of them (`pictures.vary`).
    outlined : bool
        Draw the outline of the blood.

    Returns
    -------
    int
        Slices on the sheet.
    """
    shown = [
        _tile(one, np.random.default_rng([seed, number, 41]) if as_pictures else None, outlined)
        for seed in seeds
        for number, one in enumerate(draw_slices(seed, backgrounds))
    ]
    rows = -(-len(shown) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * SIZE, rows * SIZE))
    for index, tile in enumerate(shown):
        sheet.paste(tile, (index % _COLUMNS * SIZE, index // _COLUMNS * SIZE))
    sheet.save(out)
    return len(shown)


def _tile(one: PaintedSlice, rng: np.random.Generator | None, outlined: bool) -> Image.Image:
    hu = one.hu.astype(np.float32) if rng is None else vary(rng, one.hu)
    grey = np.rint(BRAIN.apply(hu) * 255).astype(np.uint8)
    tile = np.repeat(grey[..., None], 3, axis=2)
    if outlined:
        tile[_outline(one.masks.max(axis=0) >= _HALF)] = _LINE
    picture = Image.fromarray(tile)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    found = [str(kind) for kind, label in zip(KINDS, one.labels, strict=True) if label]
    pen.text((4, 2), ", ".join(found) or "none", fill=_INK, font=font)
    pen.text((4, SIZE - 16), one.ground, fill=_INK, font=font)
    return picture


def _outline(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the edge of a mask of cells on the pixels of the slice."""
    scale = SIZE // len(cells)
    whole = np.kron(cells, np.ones((scale, scale), dtype=np.bool_)).astype(np.bool_)
    inner = whole.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inner &= np.roll(whole, step, axis)
    return whole & ~inner
