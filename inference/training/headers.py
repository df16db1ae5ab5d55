"""What the headers of a data set say about who and where: read once, kept in the run folder.

Patients, studies and series are kept as numbers: the run folder holds no name and no ID.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from ..criteria import Criteria
from ..functional_groups import DAMAGE
from ..reading import NotAnalysed, SourceImage
from ..volume import Slice, slices_of
from .gate import ACCEPTED, ASKED, refusal
from .layouts import LabelledImages
from .processes import Pool

_WHO = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
_TAGS = [
    *_WHO, "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation",
    "SliceThickness", "ImageType", "Rows", "Columns", *ASKED,
]  # fmt: skip
_CHUNK = 64
# Raised when the meaning of the numbers changes: what was kept before is then read anew.
_VERSION = 3
_NOBODY = -1
_ASSUMED_MM = 5.0
# What the data are; whether a node would refuse them is no part of that.
_DATA = ("patients", "studies", "series", "positions", "files")
_FIELDS = (*_DATA, "thickness", "refused")


@dataclass(frozen=True, slots=True, eq=False)
class Headers:
    """Who and where the images of a data set are.

    Attributes
    ----------
    patients, studies, series : ndarray of int64, (images,)
        Equal numbers for equal ones. A file without a Patient ID is of the patient whom another
        file of its study names, or else the study stands for the patient; a file that says nothing
        stands alone.
    positions : ndarray of float64, (images,)
        Along the normal of the slice, in mm.
    files : ndarray of int64, (images, 2)
        Size and time of change in nanoseconds: an exchanged file is noticed.
    thickness : ndarray of float64, (images,)
        Of the slice, in mm; 0 where the header does not say.
    refused : ndarray of int8, (images,)
        As `gate.refusal` tells it.
    """

    patients: NDArray[np.int64]
    studies: NDArray[np.int64]
    series: NDArray[np.int64]
    positions: NDArray[np.float64]
    files: NDArray[np.int64]
    thickness: NDArray[np.float64]
    refused: NDArray[np.int8]

    @property
    def digest(self) -> str:
        """SHA-256 of what the data are: who and where, and the files themselves."""
        told = hashlib.sha256()
        for name in _DATA:
            told.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return told.hexdigest()


@dataclass(frozen=True, slots=True)
class _Row:
    """Of one file; empty where it does not say."""

    who: tuple[str, str, str] = ("", "", "")
    position: float = 0.0
    thickness: float = 0.0
    refused: int = ACCEPTED


def read_headers(
    images: LabelledImages,
    cache: Path,
    pool: Pool,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    criteria: Criteria | None = None,
) -> Headers:
    """Read the headers of all images, unless `cache` has them and no file has changed since.

    Parameters
    ----------
    images : LabelledImages
    cache : Path
        An ``.npz`` file; written if need be.
    pool : Pool
        Processes that read.
    on_progress : callable, optional
        Called with how many are read, of how many.
    criteria : Criteria, optional
        Those that the images are held against; without any, none is refused.

    Returns
    -------
    Headers
    """
    asked = criteria or Criteria(min_rows=0)
    files, key = _changes(images), _key(images, asked)
    if (kept := _kept(cache, key, files)) is not None:
        return kept
    tasks = (
        (_read_chunk, ([str(images.path(i)) for i in range(begin, _end(begin, images))], asked))
        for begin in range(0, len(images), _CHUNK)
    )
    codes: tuple[dict[str, int], ...] = ({}, {}, {})
    numbers = np.zeros((len(images), 3), np.int64)
    positions, thickness = np.zeros(len(images)), np.zeros(len(images))
    refused = np.full(len(images), ACCEPTED, np.int8)
    done = 0
    for rows in pool.map(tasks):
        for row in rows:
            patient, study, series = row.who
            # Without a Patient ID the study, or at least the file, is held together.
            study = study or f"file {done}"
            for column, text in enumerate((patient, study, series or study)):
                numbers[done, column] = codes[column].setdefault(text, len(codes[column]))
            if not patient:
                numbers[done, 0] = _NOBODY
            positions[done], thickness[done] = row.position, row.thickness
            refused[done] = row.refused
            done += 1
        on_progress(done, len(images))
    patients = _of_their_studies(numbers[:, 0], numbers[:, 1])
    headers = Headers(patients, numbers[:, 1], numbers[:, 2], positions, files, thickness, refused)
    _keep(cache, key, headers)
    return headers


def _of_their_studies(patients: NDArray[np.int64], studies: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each file without a patient that of its study; number them as they come first."""
    named = patients != _NOBODY
    # Where a study has no patient, it is one itself, by a number that no patient has.
    of_study = np.arange(studies.max() + 1) + patients.max() + 1
    with_patient, first = np.unique(studies[named], return_index=True)
    of_study[with_patient] = patients[named][first]
    whole = np.where(named, patients, of_study[studies])
    _, first, places = np.unique(whole, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[places]


def _end(begin: int, images: LabelledImages) -> int:
    return min(begin + _CHUNK, len(images))


def _changes(images: LabelledImages) -> NDArray[np.int64]:
    def stats() -> Iterator[tuple[int, int]]:
        for index in range(len(images)):
            told = images.path(index).stat()
            yield told.st_size, told.st_mtime_ns

    return np.fromiter(stats(), np.dtype((np.int64, 2)), len(images))


def _key(images: LabelledImages, criteria: Criteria) -> str:
    """Return what the numbers depend on beside the files."""
    return json.dumps([_VERSION, images.digest, criteria.to_dict(), list(NotAnalysed)])


def _kept(cache: Path, key: str, files: NDArray[np.int64]) -> Headers | None:
    try:
        with np.load(cache, allow_pickle=False) as stored:
            same = str(stored["key"]) == key and np.array_equal(stored["files"], files)
            return Headers(*(stored[name] for name in _FIELDS)) if same else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None  # not there, or not whole: it is read again


def _keep(cache: Path, key: str, headers: Headers) -> None:
    fields = {name: getattr(headers, name) for name in _FIELDS}
    temporary = cache.with_suffix(".tmp.npz")
    np.savez(temporary, key=np.array(key), **fields)
    temporary.replace(cache)


def _read_chunk(paths: list[str], criteria: Criteria) -> list[_Row]:
    return [_row(Path(path), criteria) for path in paths]


def _row(path: Path, criteria: Criteria) -> _Row:
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        patient, study, series = (_text(header, name) for name in _WHO)
        first = slices_of(SourceImage(0, "", "", "", path), header)[0]
        return _Row(
            (patient, study, series),
            _position(first),
            first.thickness or 0.0,
            refusal(header, criteria),
        )
    except (InvalidDicomError, OSError, *DAMAGE):
        # Whether it can be used at all is found out when its pixels are wanted.
        return _Row()


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _position(one: Slice) -> float:
    """Return the position along the slice's own normal, else its location, else its turn."""
    normal = one.normal
    if normal is not None and one.position is not None:
        return float(normal @ np.array(one.position))
    if one.location is not None:
        return one.location
    return one.instance_number * (one.thickness or _ASSUMED_MM)
