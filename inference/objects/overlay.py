"""What is drawn over a key image: the edge of what a model marked, or where it looked.

What a model marked is a finding as the eye sees it, so nothing may lie on it: a line runs around
it. Where a model only looked is a translucent warm tint that fades out and has no line: a line
would be taken for the edge of the finding. No finding depends on telling colours apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..reading import Illustration

_MARKED = "Line: around what the model marked. Inside it nothing is drawn."
_LOOKED = "Warm tint: where the model looked, and no edge of the finding"

# A large film is first reduced by averaging whole pixels, to no less than this times its final
# size: a third of the time of the finest filter alone, and 0.2 grey levels of 255 apart from it on
# average.
_GAP = 1.5

# Saliency below the first, of the highest, is not shown: there a coarse map is but blur. From there
# opacity rises to its highest at the second, without a step that could be taken for an edge. Some
# two thirds of the contrast below are kept.
_FAINT, _FULL, _OPACITY = 0.25, 1.0, 0.35
# Orange darkens what is bright and brightens what is dark, so it is seen on bone and on air.
_TINT = (255, 130, 0)
# The line around what was marked, and the dark one that sets it off from bone.
_LINE, _EDGE = (255, 190, 40), (0, 0, 0)
# Of 255, less what is lost in rounding.
_QUARTER = 61
# Of the line around what was marked and the dark one together, in pixels.
_WIDTH = 3


def overlaid(illustration: Illustration, shape: tuple[int, int]) -> Image.Image:
    """Return an image in RGB with what is drawn over it.

    Parameters
    ----------
    illustration : Illustration
    shape : (int, int)
        Rows and columns to scale it to.
    """
    size = shape[1], shape[0]
    grey = Image.fromarray(illustration.pixels).resize(
        size, Image.Resampling.BICUBIC, reducing_gap=_GAP
    )
    picture = grey.convert("RGB")
    if illustration.marked is not None:
        return _surrounded(picture, _scaled(illustration.marked, size))
    if illustration.saliency is None:
        return picture
    layer = Image.new("RGB", size, _TINT)
    return Image.composite(layer, picture, _opacity(illustration.saliency, size))


def tint(saliency: NDArray[np.float32], shape: tuple[int, int]) -> Image.Image:
    """Return the tint alone, in RGBA, to be laid over a picture of that shape.

    Parameters
    ----------
    saliency : ndarray of float32, (h, w)
        0 to 1, covering the whole picture.
    shape : (int, int)
        Rows and columns of the picture.
    """
    size = shape[1], shape[0]
    layer = Image.new("RGB", size, _TINT)
    layer.putalpha(_opacity(saliency, size))
    return layer


def legend(illustration: Illustration) -> str:
    """Return what to say of that which is drawn; nothing if nothing is."""
    if illustration.marked is not None:
        return _MARKED
    if illustration.saliency is None:
        return ""
    explained = illustration.explanation
    if explained is not None and not explained.is_shown:
        return f"No tint: no place speaks for it enough to be shown ({explained.caption})."
    made = "" if explained is None else f" ({explained.caption})"
    return f"{_LOOKED}{made}."


def _scaled(marked: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Scale a mask; of a pixel that covers several, one that is marked is enough.

    The smallest spot of a film would vanish otherwise, and with it the line that leads to it.
    Enlarged, the middle of each pixel stays inside: a corner among four may have a quarter.
    """
    there = Image.fromarray(marked.view(np.uint8) * np.uint8(255))
    if there.width > size[0] or there.height > size[1]:
        return np.asarray(there.resize(size, Image.Resampling.BOX)) > 0
    return np.asarray(there.resize(size, Image.Resampling.BILINEAR)) >= _QUARTER


def _surrounded(picture: Image.Image, inside: NDArray[np.bool_]) -> Image.Image:
    """Draw a line of two pixels around a mask, and a dark one of one pixel around that."""
    inside = _within(inside)
    # In turn by four and by eight neighbours: a line is about as wide aslant as upright.
    near = _grown(inside)
    line = _grown(near, corners=True)
    return _painted(picture, ((_grown(line) & ~line, _EDGE), (line & ~inside, _LINE)))


def _within(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave room for the line where a mask reaches the border: outside it none would be seen."""
    kept = inside.copy()
    kept[:_WIDTH] = kept[-_WIDTH:] = kept[:, :_WIDTH] = kept[:, -_WIDTH:] = False
    # What lies in that room alone stays as it is, with a line on all sides but that of the border.
    reached = kept
    for _ in range(_WIDTH):
        reached = _grown(reached, corners=True)
    return kept | (inside & ~reached)


def _opacity(saliency: NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
    """Return how dense the tint is, the denser the higher the saliency."""
    # A coarse map is scaled smoothly: its cells would show as edges.
    there = Image.fromarray(np.ascontiguousarray(saliency, dtype=np.float32))
    full = np.asarray(there.resize(size, Image.Resampling.BICUBIC)).clip(0.0, 1.0)
    level = Image.fromarray((full * np.float32(255.0)).astype(np.uint8))
    rise = ((np.linspace(0.0, 1.0, 256) - _FAINT) / (_FULL - _FAINT)).clip(0.0, 1.0)
    opacity = np.rint(255.0 * _OPACITY * rise**2 * (3.0 - 2.0 * rise)).astype(int)
    return level.point(opacity.tolist())


def _painted(
    picture: Image.Image, layers: tuple[tuple[NDArray[np.bool_], tuple[int, int, int]], ...]
) -> Image.Image:
    pixels = np.array(picture, dtype=np.uint8)
    for where, colour in layers:
        pixels[where] = colour
    return Image.fromarray(pixels)


def _grown(mask: NDArray[np.bool_], *, corners: bool = False) -> NDArray[np.bool_]:
    """Return the mask with its neighbours above, below and on either side, or all eight."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    beside = grown.copy() if corners else mask
    grown[:, 1:] |= beside[:, :-1]
    grown[:, :-1] |= beside[:, 1:]
    return grown
