"""Small pictures for a report: the image as a person sees it, and where the network looked."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from ..decoded import Picture
from ..errors import ODD_DATA, InferenceError
from ..image_file import open_image
from ..pictures import is_picture
from ..reader import Reader
from ..windows import BRAIN, Window
from .images import opened_picture

# Longest side in pixels: sharp on a phone, and 20 of them are less than a megabyte.
_LONGEST = 300
_QUALITY = 82
# Saliency below this is not shown; above, opacity rises to the highest.
_FAINT, _OPACITY = 0.25, 0.5
_COOL, _WARM = np.array([230.0, 85.0, 0.0]), np.array([255.0, 225.0, 90.0])


def thumbnail(reader: Reader, path: Path, column: int, window: Window = BRAIN) -> bytes | None:
    """Return a file as JPEG, with where the network looked for a label to its right.

    The first frame of an image of several.

    Parameters
    ----------
    reader : Reader
    path : Path
        Read before.
    column : int
        Which of the bundle's labels.
    window : Window
        What the greys of a CT picture are taken to spread over.

    Returns
    -------
    bytes or None
        None if it cannot be shown: a report can do without.
    """
    bundle = reader.bundle
    try:
        dataset: Dataset
        if is_picture(path):
            dataset, _ = opened_picture(path, bundle.spec.kind, window)
        else:
            dataset = open_image(path)
        picture = reader.picture(dataset, 0, [column])
    except (InferenceError, *ODD_DATA):
        return None
    try:
        looked = reader.looked_at(picture, column)
    except (InferenceError, *ODD_DATA):
        looked = None
    return jpeg(side_by_side(picture, looked))


def side_by_side(picture: Picture, looked: NDArray[np.float32] | None) -> Image.Image:
    """Return a picture, and beside it the same with the saliency, (h, w) of 0 to 1, if any."""
    grey = Image.fromarray(picture.pixels)
    height, width = picture.pixels.shape[0] * picture.pixel_aspect, picture.pixels.shape[1]
    scale = _LONGEST / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    plain = grey.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0).convert("RGB")
    if looked is None:
        return plain
    sheet = Image.new("RGB", (2 * size[0] + 4, size[1]), (255, 255, 255))
    sheet.paste(plain, (0, 0))
    sheet.paste(_tinted(plain, looked), (size[0] + 4, 0))
    return sheet


def _tinted(plain: Image.Image, looked: NDArray[np.float32]) -> Image.Image:
    there = Image.fromarray(np.ascontiguousarray(looked, dtype=np.float32))
    level = np.asarray(there.resize(plain.size, Image.Resampling.BILINEAR)).clip(0, 1)
    strength = ((level - _FAINT) / (1 - _FAINT)).clip(0, 1)[..., None]
    colour = _COOL + (_WARM - _COOL) * strength
    opacity = _OPACITY * strength
    mixed = np.asarray(plain) * (1 - opacity) + colour * opacity
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def jpeg(picture: Image.Image) -> bytes:
    """Return a picture as JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
