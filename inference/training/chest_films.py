"""Real radiographs as canvases to paint on: where their lungs are, and what they hide.

A film is kept in the size at which its lungs fill the input of the network, together with a copy
from which fine markings are taken away and with the distance from the border of each lung. What is
painted later only picks from these.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from ..errors import InferenceError, NotAnalysableError
from ..image_file import open_image
from ..lungs import LungPair, around, find_lungs
from ..pictures import as_radiograph
from ..pixels import radiograph_values
from .phantoms.fields import FloatArray, blurred

# Below so many pixels a lung box says nothing of lines, and what is painted must not either.
COARSE_PIXELS = 120
# The finest that a film is kept: more than the network ever sees.
_MOST_ENLARGED = 1.0
_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Film:
    """One radiograph, scaled.

    Attributes
    ----------
    name : str
        Of its file.
    group : str
        Of its patient, or of the file where no patient is known.
    layers : torch.Tensor of float16, shape (1, 4, rows, columns)
        The picture 0 to 1 with bone high; the same without fine markings; the distance in pixels
        inwards from the border of the patient's right and of the left lung.
    box : tuple of float
        Top, left, bottom, right of the lungs in these pixels.
    pixels : float
        Side of the lung box in pixels of the file.
    label : float
        1 with a pneumothorax, 0 without.
    """

    name: str
    group: str
    layers: torch.Tensor
    box: tuple[float, float, float, float]
    pixels: float
    label: float

    @property
    def coarse(self) -> bool:
        """Whether the file has too few pixels to show a pleural line."""
        return self.pixels < COARSE_PIXELS


@dataclass(frozen=True, slots=True)
class Listed:
    """A file to read, whose it is and whether it shows a pneumothorax."""

    path: Path
    group: str
    label: float = 0.0


def list_films(folders: Sequence[Path]) -> list[Listed]:
    """Return the pictures (PNG, JPEG, DICOM) below `folders`, each its own group, sorted.

    Raises
    ------
    InferenceError
        If a folder holds none.
    """
    found = []
    for folder in folders:
        paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in (*_PICTURES, ".dcm")]
        if not paths:
            raise InferenceError(f"{folder} holds no radiograph (PNG, JPEG or DICOM)")
        found += [Listed(path, f"film-{path.stem}") for path in paths]
    return found


def list_labelled(folder: Path) -> list[Listed]:
    """Return the files of ``labels.csv`` (columns file, patient, pneumothorax) in `folder`.

    Raises
    ------
    InferenceError
        If the table cannot be read or lacks a column.
    """
    table = folder / "labels.csv"
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
        return [
            Listed(folder / r["file"], f"patient-{r['patient']}", float(r["pneumothorax"]))
            for r in rows
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise InferenceError(f"{table} cannot be read: {error}") from error
    except KeyError as error:
        raise InferenceError(
            f"{table} has no column {error}; needed: file, patient, pneumothorax"
        ) from error


def read_values(path: Path) -> NDArray[np.float32]:
    """Return a radiograph with bone high, shape (rows, columns).

    Raises
    ------
    InferenceError
        If the file is no picture.
    """
    if path.suffix.lower() not in _PICTURES:
        return radiograph_values(open_image(path)).values
    try:
        # A picture is read as evaluation reads it: as the DICOM file that it would be.
        return radiograph_values(as_radiograph(path)).values
    except NotAnalysableError as error:
        raise InferenceError(f"{path} is no picture: {error.reason}") from error


def read_films(listed: Iterable[Listed], side: int) -> Iterator[Film]:
    """Yield films whose lung box is `side` pixels long; those without lungs are left out."""
    for one in listed:
        values = read_values(one.path)
        pair = find_lungs(values)
        if pair is not None:
            yield make_film(values, pair, side, one)


def make_film(values: FloatArray, pair: LungPair, side: int, listed: Listed) -> Film:
    """Return `values`, (rows, columns), as a canvas whose lung box is about `side` pixels long."""
    top, left, bottom, right = around(pair, *values.shape)
    pixels = float(max(bottom - top, right - left))
    low, high = np.percentile(values, (0.5, 99.5))
    picture = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    scale = side / pixels
    shape = (round(scale * len(picture)), round(scale * picture.shape[1]))
    # Of coarse films the markings are taken away before they are enlarged.
    window = 3 if pixels < COARSE_PIXELS else 9
    plain = _without_markings(picture if scale > 1 else _resized(picture, shape), window)
    picture, plain = _resized(picture, shape), _resized(plain, shape)
    depths = lung_depths(picture, pair)
    layers = torch.from_numpy(np.stack([picture, plain, *depths]))[None].half()
    rows, columns = shape[0] / len(values), shape[1] / values.shape[1]
    box = (top * rows, left * columns, bottom * rows, right * columns)
    return Film(listed.path.name, listed.group, layers, box, pixels, listed.label)


def lung_depths(picture: FloatArray, pair: LungPair) -> tuple[FloatArray, FloatArray]:
    """Return the distance in pixels inwards from the border of the right and the left lung.

    The outline of each lung is moved to where the film is dark.
    """
    from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

    rows, columns = picture.shape
    y = ((np.arange(rows, dtype=np.float32) + 0.5) / rows)[:, None]
    x = ((np.arange(columns, dtype=np.float32) + 0.5) / columns)[None, :]
    unit = min(rows, columns) / 30
    smooth = blurred(picture, unit / 4)
    mean = blurred(smooth, 2.5 * unit)
    spread = np.sqrt(blurred(np.square(smooth - mean), 2.5 * unit)) + 0.03
    dark = np.clip((mean - smooth) / spread, -2, 2)
    depths = []
    for outline in (pair.right, pair.left):
        guess = outline.inside(x, y)
        inwards = distance_transform_edt(guess) - distance_transform_edt(~guess)
        mask = 0.9 * dark + np.clip(inwards / unit, -3, 1.4) > 0
        mask = blurred(mask.astype(np.float32), unit / 4) > 0.5
        parts, count = label(mask)
        if count:
            mask = parts == 1 + int(np.argmax(np.bincount(parts[parts > 0])[1:]))
        mask = binary_fill_holes(mask)
        depth = distance_transform_edt(mask) - distance_transform_edt(~mask)
        depths.append(blurred(depth.astype(np.float32), unit / 5))
    return depths[0], depths[1]


def _without_markings(picture: FloatArray, window: int) -> FloatArray:
    """Return `picture` under a median: edges of ribs stay, vessels go."""
    from scipy.ndimage import median_filter

    return np.asarray(median_filter(picture, size=window, mode="nearest"), dtype=np.float32)


def _resized(picture: FloatArray, shape: tuple[int, int]) -> FloatArray:
    whole = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32))[None, None]
    mode = "bicubic" if shape[0] > len(picture) else "bilinear"
    resized = F.interpolate(whole, size=shape, mode=mode, antialias=True, align_corners=False)
    return np.asarray(resized[0, 0].numpy().clip(0, 1), dtype=np.float32)
