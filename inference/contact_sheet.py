"""Pictures beside each other, each with a line of words above it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from PIL import Image, ImageDraw, ImageFont

from .image_view import ImageView

# Longest side of a picture among others.
_LONGEST = 512
_GAP, _BAND, _LETTERS = 6, 24, 15
_DARK, _LIGHT = (16, 18, 22), (235, 238, 242)


def alone(view: ImageView) -> Image.Image:
    """Return one picture in the matrix of its source, with square pixels and nothing added."""
    rows, columns = view.pixels.shape
    picture = Image.fromarray(view.pixels)
    if view.pixel_aspect == 1.0:
        return picture
    # Only enlarged: no pixel is lost.
    aspect = view.pixel_aspect
    size = (columns, round(rows * aspect)) if aspect > 1 else (round(columns / aspect), rows)
    return picture.resize(size, Image.Resampling.BICUBIC)


def contact_sheet(views: Sequence[tuple[str, ImageView]], across: int) -> Image.Image:
    """Return pictures with their words in rows of `across`.

    Parameters
    ----------
    views : sequence of (str, ImageView)
        In the order of reading; the words come before the view's own label.
    across : int

    Returns
    -------
    Image
        Grey on dark; pictures are at most 512 on the longer side.
    """
    tiles = [(words, _fitted(alone(view))) for words, view in views]
    width = max(tile.width for _, tile in tiles)
    height = max(tile.height for _, tile in tiles)
    down = ceil(len(tiles) / across)
    across = min(across, len(tiles))
    sheet = Image.new(
        "RGB",
        (across * (width + _GAP) + _GAP, down * (height + _BAND + _GAP) + _GAP),
        _DARK,
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LETTERS)
    for at, (words, tile) in enumerate(tiles):
        left = _GAP + (at % across) * (width + _GAP)
        top = _GAP + (at // across) * (height + _BAND + _GAP)
        text = f"{words}  {views[at][1].label}".strip() if words else views[at][1].label
        pen.text((left, top + 2), _short(text, width, font), fill=_LIGHT, font=font)
        sheet.paste(
            tile.convert("RGB"),
            (left + (width - tile.width) // 2, top + _BAND + (height - tile.height) // 2),
        )
    return sheet


def _fitted(picture: Image.Image) -> Image.Image:
    scale = _LONGEST / max(picture.size)
    if scale >= 1:
        return picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _short(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return printable words that fit; what is too much in the middle is left out."""
    words = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    kept = len(words)
    shown = words
    while kept > 8 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{words[: kept // 2]}...{words[-(kept - kept // 2) :]}"
    return shown
