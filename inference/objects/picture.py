"""A key image as a picture: what a person sees who opens the result in any viewer.

Words stand in bands above and below the image, never over anatomy, and never leave the picture:
a line that is too long is continued or shortened.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..reading import Illustration
from .overlay import legend, overlaid

# Longest side of a picture, and the shorter side that a small image is enlarged to.
LONGEST = 1024
_READABLE = 512

WARNING = "AI - unverified"
NOT_PRIMARY = "Not for primary diagnosis"

_MARGIN = 12
_TITLE_SIZE, _BODY_SIZE, _SMALL_SIZE = 24, 20, 16
# Lines of one text, and of all statements before "and 3 more": the image keeps half the height.
_MOST_LINES, _MOST_STATED = 2, 8
# More than two lines hold of the narrowest letters.
_MOST_LETTERS = 1000

_BAND = (16, 18, 22)
_AMBER, _WHITE, _GREY = (255, 200, 80), (245, 245, 245), (190, 194, 200)


@dataclass(frozen=True, slots=True)
class Caption:
    """The words of a picture; what is not printable ASCII becomes a question mark.

    Attributes
    ----------
    title : str
        What it is about.
    lines : tuple of str
        A statement for each label, such as ``Pneumothorax: Present, 93 %``.
    footer : str
        Model and version, slice and position, window.
    """

    title: str
    lines: tuple[str, ...] = ()
    footer: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: int
    colour: tuple[int, int, int]


def draw(illustration: Illustration, caption: Caption) -> NDArray[np.uint8]:
    """Return an image with what is drawn over it between bands of words.

    Parameters
    ----------
    illustration : Illustration
    caption : Caption

    Returns
    -------
    ndarray of uint8, (rows, columns, 3)
        RGB, at most 1024 on the longer side; the same for the same values.
    """
    shape, above, below = _layout(illustration, caption)
    image = overlaid(illustration, shape)
    width = max(shape[1], _READABLE)
    top, bottom = _height(above), _height(below)
    canvas = Image.new("RGB", (width, top + shape[0] + bottom), _BAND)
    canvas.paste((0, 0, 0), (0, top, width, top + shape[0]))
    canvas.paste(image, ((width - shape[1]) // 2, top))
    _write(canvas, above, 0)
    _write(canvas, below, top + shape[0])
    return np.asarray(canvas, dtype=np.uint8).copy()


def draw_card(caption: Caption) -> NDArray[np.uint8]:
    """Return the words alone: for images that were not analysed.

    Returns
    -------
    ndarray of uint8, (rows, columns, 3)
        RGB, 768 columns wide.
    """
    width = 768
    lines = [*_above(caption, width), *_below(caption, width, "")]
    canvas = Image.new("RGB", (width, max(_READABLE // 2, _height(lines))), _BAND)
    _write(canvas, lines, 0)
    return np.asarray(canvas, dtype=np.uint8).copy()


def _layout(
    illustration: Illustration, caption: Caption
) -> tuple[tuple[int, int], list[_Line], list[_Line]]:
    """Return the size of the image and the bands: they share the height that there is.

    A narrower image makes narrower and so higher bands; a few rounds settle that.
    """
    rows, columns = illustration.pixels.shape
    height, width = rows * illustration.pixel_aspect, float(columns)
    scale = min(max(1.0, _READABLE / min(height, width)), LONGEST / max(height, width))
    while True:
        shape = max(1, round(height * scale)), max(1, round(width * scale))
        band = max(shape[1], _READABLE)
        above = _above(caption, band)
        below = _below(caption, band, legend(illustration))
        free = LONGEST - _height(above) - _height(below)
        if shape[0] <= free:
            return shape, above, below
        scale = min(free / height, 0.99 * scale)


def _above(caption: Caption, width: int) -> list[_Line]:
    lines = _wrapped(f"{WARNING}. {NOT_PRIMARY}.", _TITLE_SIZE, _AMBER, width)
    lines += _wrapped(caption.title, _BODY_SIZE, _WHITE, width)
    stated: list[_Line] = []
    for number, statement in enumerate(caption.lines):
        wrapped = _wrapped(statement, _BODY_SIZE, _WHITE, width)
        if len(stated) + len(wrapped) > _MOST_STATED:
            more = f"and {len(caption.lines) - number} more"
            return lines + stated + _wrapped(more, _BODY_SIZE, _WHITE, width)
        stated += wrapped
    return lines + stated


def _below(caption: Caption, width: int, drawn: str) -> list[_Line]:
    lines = _wrapped(drawn, _SMALL_SIZE, _GREY, width) if drawn else []
    return lines + _wrapped(caption.footer, _SMALL_SIZE, _GREY, width)


def _wrapped(text: str, size: int, colour: tuple[int, int, int], width: int) -> list[_Line]:
    """Break a text into lines that fit; what is too much ends in an ellipsis."""
    room = width - 2 * _MARGIN
    words = " ".join(_printable(text[:_MOST_LETTERS]).split())
    if words and _width(words, size) <= room:
        return [_Line(words, size, colour)]
    lines: list[str] = []
    for word in _pieces(words, size, room):
        if lines and _width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    if len(lines) > _MOST_LINES:
        lines = lines[:_MOST_LINES]
        while _width(f"{lines[-1]} ...", size) > room:
            lines[-1] = lines[-1][:-1].rstrip()
        lines[-1] = f"{lines[-1]} ..."
    return [_Line(line, size, colour) for line in lines]


def _pieces(text: str, size: int, room: int) -> list[str]:
    """Return the words; one that is wider than a line comes in parts."""
    pieces = []
    for word in text.split():
        rest = word
        while _width(rest, size) > room:
            length = bisect_right(
                range(1, len(rest)), room, key=lambda n: ceil(_width(rest[:n], size))
            )
            length = max(1, length)
            pieces.append(rest[:length])
            rest = rest[length:]
        pieces.append(rest)
    return pieces


def _printable(text: str) -> str:
    return "".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in text)


def _step(line: _Line) -> int:
    return round(line.size * 1.3)


def _height(lines: Sequence[_Line]) -> int:
    return sum(_step(line) for line in lines) + 2 * _MARGIN if lines else 0


def _write(canvas: Image.Image, lines: Sequence[_Line], top: int) -> None:
    pen = ImageDraw.Draw(canvas)
    at = top + _MARGIN
    for line in lines:
        pen.text((_MARGIN, at), line.text, fill=line.colour, font=_font(line.size))
        at += _step(line)


@lru_cache(maxsize=1024)
def _width(text: str, size: int) -> float:
    """Return the length of a line in pixels; the captures of an analysis share most of theirs."""
    return _font(size).getlength(text)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font: it is the same on every machine."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
