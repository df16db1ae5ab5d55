"""Images read one by one, without a node: files in, probabilities out, in batches.

Every image goes the way of the node: the reader's gate, its decoding, its preparation, its network.
Only what asks for a whole series (how many slices, how far apart) is not asked of a single image.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ..bundle import Bundle
from ..criteria import Criteria
from ..decoded import Batch
from ..display import window_text
from ..engines.engine import joined_rows
from ..errors import ODD_DATA, InferenceError, NotAnalysableError
from ..functional_groups import element
from ..model import load_image_reader
from ..pictures import as_ct, as_radiograph, is_picture
from ..reader import Reader
from ..reading import SourceImage
from ..test_time import TestTime
from ..windows import BRAIN, Window

# Rows that go to the network at once.
DEFAULT_BATCH = 16
# What reads single images; other kinds read series.
_BY_IMAGE = ("radiograph", "ct_slices")


@dataclass(frozen=True, slots=True, eq=False)
class ImageResult:
    """What a reader says of one file.

    Attributes
    ----------
    path : Path
    probabilities : ndarray, (labels,), or None
        The highest of its frames; None where it was not read.
    fault : str
        Why it was not read; empty where it was.
    sop_instance_uid : str
        Empty for a plain picture, and where the file could not be opened.
    patient : str
        Patient ID, else Study Instance UID, else the path: what is resampled together. It leaves
        this process in no output.
    notes : tuple of str
        What was done to its pixels, or assumed of them.
    """

    path: Path
    probabilities: NDArray[np.float64] | None
    fault: str = ""
    sop_instance_uid: str = ""
    patient: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pictures:
    """How plain pictures are taken.

    Attributes
    ----------
    folder : Path
        Where they are kept as DICOM files while they are read.
    window : Window
        What the greys of a CT picture spread over.
    """

    folder: Path
    window: Window = BRAIN


def ungated(bundle: Bundle) -> Bundle:
    """Return the bundle with a gate that lets every image with pixels through."""
    return replace(bundle, suitability=Criteria(min_rows=1))


def singly(bundle: Bundle) -> Bundle:
    """Return the bundle with a gate for single images: nothing is asked of a series."""
    free = Criteria()
    return replace(
        bundle,
        suitability=replace(
            bundle.suitability,
            min_slices=free.min_slices,
            min_coverage_mm=free.min_coverage_mm,
            max_gap=free.max_gap,
            max_duplicates=free.max_duplicates,
            max_spacing_deviation=free.max_spacing_deviation,
            # A head is seen by its series: its lowest and highest slices alone show no brain.
            anatomy=free.anatomy,
        ),
    )


def image_reader(
    bundle: Bundle,
    device: str,
    *,
    gate: bool = True,
    batch: int = DEFAULT_BATCH,
    test_time: TestTime | None = None,
) -> Reader:
    """Load a reader for single images.

    Raises
    ------
    InferenceError
        If the bundle reads series only, cannot be loaded, or the device is not there.
    """
    if bundle.spec.kind not in _BY_IMAGE:
        raise InferenceError(
            f"{bundle.path}: a {bundle.spec.kind} reader reads whole series, not single images: "
            "use --by series"
        )
    reader = load_image_reader(singly(bundle) if gate else ungated(bundle), device, batch)
    return reader if test_time is None else reader.augmented(test_time)


def read_images(
    reader: Reader,
    paths: Iterable[Path],
    *,
    batch: int = DEFAULT_BATCH,
    window: Window = BRAIN,
) -> Iterator[ImageResult]:
    """Read files in their order; memory does not grow with their number.

    Parameters
    ----------
    reader : Reader
        Of `image_reader`.
    paths : iterable of Path
        DICOM files, PNG and JPEG.
    batch : int
        Rows that go to the network at once.
    window : Window
        What the greys of a CT picture are taken to spread over.

    Yields
    ------
    ImageResult
        One for each path, those that could not be read included.

    Raises
    ------
    BundleError
        If the network does not give what the bundle promises.
    """
    with tempfile.TemporaryDirectory(prefix="preread-") as folder:
        pictures = Pictures(Path(folder), window)
        waiting: list[_Waiting] = []
        rows = 0
        for number, path in enumerate(paths):
            one = _decoded(reader, number, path, pictures)
            waiting.append(one)
            rows += one.rows
            if rows >= batch or len(waiting) >= 4 * batch:
                yield from _scored(reader, waiting, batch)
                waiting, rows = [], 0
        yield from _scored(reader, waiting, batch)


def opened_picture(
    path: Path, kind: str, window: Window, modalities: Sequence[str] = ()
) -> tuple[Dataset, tuple[str, ...]]:
    """Return a plain picture as DICOM, and the note of what was assumed of its greys."""
    if kind == "ct_slices":
        note = f"picture_taken_as_window_{window_text(window).replace(' ', '_')}"
        return as_ct(path, window), (note,)
    projections = [one for one in modalities if one in ("CR", "DX")]
    return as_radiograph(path, projections[0] if projections else "CR"), ("picture_greys",)


def source_of(
    reader: Reader, number: int, path: Path, pictures: Pictures
) -> tuple[SourceImage, tuple[str, ...], bool]:
    """Return a file as the reader takes it, notes on that, and whether it is a plain picture.

    Raises
    ------
    NotAnalysableError
        If a picture cannot be read.
    """
    if not is_picture(path):
        return SourceImage(number, str(number), "", "", path), (), False
    spec, criteria = reader.bundle.spec, reader.bundle.suitability
    dataset, notes = opened_picture(path, spec.kind, pictures.window, criteria.modalities)
    there = pictures.folder / "picture.dcm"
    dataset.save_as(there, enforce_file_format=True)
    return SourceImage(number, str(number), "", "", there), notes, True


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file on its way to the network."""

    result: ImageResult
    batch: Batch | None

    @property
    def rows(self) -> int:
        return 0 if self.batch is None else len(self.batch.tensor)


def _decoded(reader: Reader, number: int, path: Path, pictures: Pictures) -> _Waiting:
    try:
        source, notes, plain = source_of(reader, number, path, pictures)
        decoded = reader.decode([source])
        batch = joined(list(decoded.batches))
    except NotAnalysableError as error:
        return _Waiting(ImageResult(path, None, str(error), patient=str(path)), None)
    except ODD_DATA as error:  # the message may quote the header
        return _Waiting(ImageResult(path, None, type(error).__name__, patient=str(path)), None)
    header = decoded.headers[0]
    patient = element(header, "PatientID") or element(header, "StudyInstanceUID") or path
    result = ImageResult(
        path,
        None,
        sop_instance_uid="" if plain else str(element(header, "SOPInstanceUID") or ""),
        patient=str(patient),
        notes=tuple(dict.fromkeys(chain(notes, *batch.notes))),
    )
    return _Waiting(result, batch)


def _scored(reader: Reader, waiting: Sequence[_Waiting], batch: int) -> Iterator[ImageResult]:
    known = [one.batch for one in waiting if one.batch is not None]
    scores = _in_parts(reader, joined(known), batch) if known else np.zeros((0, 0))
    first = 0
    for one in waiting:
        if one.batch is None:
            yield one.result
            continue
        rows = scores[first : first + one.rows]
        first += one.rows
        yield replace(one.result, probabilities=rows.max(axis=0))


def _in_parts(reader: Reader, rows: Batch, batch: int) -> NDArray[np.float64]:
    """Return the scores of many rows, no more than `batch` at once: an image may have 300."""
    count = len(rows.tensor)
    parts = [_part(rows, slice(first, first + batch)) for first in range(0, count, batch)]
    return np.concatenate([reader.scores(part) for part in parts])


def joined(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one; whatever a batch has for each row is put end to end."""
    if len(batches) == 1:
        return batches[0]
    tensors = joined_rows([batch.tensor for batch in batches])
    rest = {
        field.name: tuple(chain.from_iterable(getattr(batch, field.name) for batch in batches))
        for field in fields(Batch)
        if field.name != "tensor"
    }
    return Batch(tensor=tensors, **rest)


def _part(batch: Batch, rows: slice) -> Batch:
    return replace(
        batch, **{field.name: getattr(batch, field.name)[rows] for field in fields(Batch)}
    )
