"""What is measured: images on disk, and what a reader said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import images
import numpy as np
from pydicom import Dataset

from inference.bundle import Bundle, open_bundle
from inference.display import pixel_aspect, show_radiograph, show_slice, window_text
from inference.illustrate import View, film_views, slice_views, window_of
from inference.image_file import header_of, open_image
from inference.pixels import hounsfield_values, radiograph_values
from inference.postprocess import Probabilities, image_findings, series_findings
from inference.reading import Illustration, Reading
from inference.settings import shipped_bundles

_FILM_LIMIT, _SERIES_LIMIT = 150.0, 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One analysis whose objects are to be made.

    Attributes
    ----------
    files : tuple of Path
        The images, in their order.
    limit_ms : float
        What the objects may take.
    """

    title: str
    files: tuple[Path, ...]
    bundle: Bundle
    reading: Reading
    limit_ms: float

    def headers(self) -> tuple[Dataset, ...]:
        """Return what the reader hands on: it has opened the images, and no value is parsed."""
        return tuple(header_of(open_image(path)) for path in self.files)


NAMES = ("film-1024", "film-3000", "ct-28", "ct-300")


def build(name: str, folder: Path, slices: int | None = None) -> Case:
    """Write the images of a case into `folder`, which is made, and say what is found in them.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    slices : int, optional
        Fewer slices than the name says, for a try.
    """
    folder.mkdir(parents=True)
    if name == "film-1024":
        return _film(images.radiograph(folder, 1024, 1024))
    if name == "film-3000":
        return _film(images.radiograph(folder, 3000, 2500))
    return _series(images.head_series(folder, slices or int(name.removeprefix("ct-"))))


@cache
def _bundles() -> dict[str, Bundle]:
    return {bundle.name: bundle for bundle in map(open_bundle, shipped_bundles())}


def _film(files: Sequence[Path]) -> Case:
    bundle = next(b for b in _bundles().values() if b.spec.kind == "radiograph")
    image = open_image(files[0])
    uid, probabilities = str(image.SOPInstanceUID), np.full((1, len(bundle.labels)), 0.97)
    (view,) = film_views(bundle, [uid], probabilities)
    shown = show_radiograph(radiograph_values(image), image, 0, bundle.spec)
    findings = image_findings(bundle, [uid], probabilities)
    reading = Reading(findings, (uid,), {}, (_picture(bundle, view, image, shown),))
    title = f"chest radiograph, {image.Rows} x {image.Columns}"
    return Case(title, tuple(files), bundle, reading, _FILM_LIMIT)


def _series(files: Sequence[Path]) -> Case:
    """Every label is found, so that there are as many pictures and key slices as may be."""
    bundle = next(b for b in _bundles().values() if b.spec.kind == "ct_slices")
    headers = [open_image(path) for path in files]
    uids = [str(header.SOPInstanceUID) for header in headers]
    positions = np.array([float(header.ImagePositionPatient[2]) for header in headers])
    probabilities = _bumps(positions, len(bundle.labels))
    pictures = []
    for view in slice_views(bundle, positions, probabilities):
        image, window = headers[view.row], window_of(bundle, view.columns)
        shown = show_slice(hounsfield_values(image, 0).values, window)
        place = (window_text(window), float(positions[view.row]))
        pictures.append(_picture(bundle, view, image, shown, *place))
    findings = series_findings(bundle, uids, positions, probabilities)
    reading = Reading(findings, tuple(uids), {}, tuple(pictures))
    return Case(f"head CT, {len(files)} slices", tuple(files), bundle, reading, _SERIES_LIMIT)


def _bumps(positions: np.ndarray, labels: int) -> Probabilities:
    centres = np.linspace(positions.min(), positions.max(), labels + 2)[1:-1]
    apart = (positions[:, None] - centres) / 20.0
    return np.asarray(0.98 * np.exp(-(apart**2)), dtype=np.float64)


def _picture(
    bundle: Bundle,
    view: View,
    image: Dataset,
    pixels: np.ndarray,
    window: str = "",
    position_mm: float | None = None,
) -> Illustration:
    side = np.linspace(-2.0, 2.0, 14, dtype=np.float32)
    saliency = np.exp(-(side[:, None] ** 2) - (side - 0.5) ** 2)
    return Illustration(
        str(image.SOPInstanceUID),
        0,
        pixels,
        window,
        pixel_aspect(image, 0),
        saliency,
        tuple(bundle.labels[column].name for column in view.columns),
        position_mm,
    )
