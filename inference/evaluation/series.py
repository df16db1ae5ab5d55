"""Series read whole, as the node does, from files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from .. import copies
from ..errors import ODD_DATA, NotAnalysableError
from ..functional_groups import DAMAGE, element, transfer_syntax
from ..model import LoadedReader
from ..pictures import is_picture
from ..reading import Reading, Scope, SourceImage

_TAGS = ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"]


@dataclass(frozen=True, slots=True)
class SeriesFiles:
    """The files of one series."""

    series_instance_uid: str
    images: tuple[SourceImage, ...]


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """What a reader says of a series.

    Attributes
    ----------
    probabilities : mapping of str to float
        By label: of the series where the reader judges it, else the highest of its images. Empty
        where it was not read.
    used : int
        Images that were read.
    notes : tuple of str
        What was done to pixels, and to how many images.
    patient : str
        As of `ImageResult`.
    key : Path or None
        The image that shows best what was found, or came nearest to it.
    """

    series: SeriesFiles
    probabilities: dict[str, float]
    used: int = 0
    notes: tuple[str, ...] = ()
    fault: str = ""
    patient: str = ""
    key: Path | None = None


def find_series(paths: Iterable[Path]) -> tuple[list[SeriesFiles], list[tuple[Path, str]]]:
    """Put files together by Series Instance UID (0020,000E).

    Returns
    -------
    list of SeriesFiles
        In the order of their first file.
    list of (Path, str)
        Files that are in no series, and why.
    """
    found: dict[str, list[SourceImage]] = {}
    strays: list[tuple[Path, str]] = []
    for number, path in enumerate(paths):
        if is_picture(path):
            strays.append((path, "a plain picture is in no series; read it with --by image"))
            continue
        try:
            header = dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
        except (InvalidDicomError, *DAMAGE) as error:
            strays.append((path, f"no DICOM file that can be read ({type(error).__name__})"))
            continue
        uid = _uid(header, "SeriesInstanceUID")
        if not uid:
            strays.append((path, "has no Series Instance UID (0020,000E)"))
            continue
        instance = _uid(header, "SOPInstanceUID")
        if not instance:  # several of them would be taken for one image
            strays.append((path, "has no SOP Instance UID (0008,0018)"))
            continue
        found.setdefault(uid, []).append(
            SourceImage(
                number,
                instance,
                _uid(header, "SOPClassUID"),
                str(transfer_syntax(header)),
                path,
            )
        )
    return [SeriesFiles(uid, tuple(images)) for uid, images in found.items()], strays


def read_series(reader: LoadedReader, series: Iterable[SeriesFiles]) -> Iterator[SeriesResult]:
    """Read series after series; the same call as the node's.

    Raises
    ------
    BundleError
        If the network does not give what the bundle promises.
    """
    for one in series:
        try:
            reading = reader.read(one.images)
        except NotAnalysableError as error:
            yield SeriesResult(one, {}, fault=str(error))
        except ODD_DATA as error:  # the message may quote the header
            yield SeriesResult(one, {}, fault=type(error).__name__)
        else:
            used = len(reading.used_sop_instance_uids)
            yield SeriesResult(
                one,
                _widest(reading),
                used,
                _notes(reading),
                patient=_patient(reading, one),
                key=_key(reading),
            )


def _widest(reading: Reading) -> dict[str, float]:
    judged = [finding for finding in reading.findings if finding.scope is Scope.SERIES]
    found: dict[str, float] = {}
    for finding in judged or reading.findings:
        name = finding.label.name
        found[name] = max(found.get(name, 0.0), finding.probability)
    return found


def _patient(reading: Reading, series: SeriesFiles) -> str:
    header = reading.headers[0] if reading.headers else Dataset()
    known = element(header, "PatientID") or element(header, "StudyInstanceUID")
    return str(known or series.series_instance_uid)


def _key(reading: Reading) -> Path | None:
    """Return the file of the first picture that the node would show."""
    used = reading.used_sop_instance_uids
    wanted = [*(one.sop_instance_uid for one in reading.illustrations), *used][:1]
    # The header's: of several files under one UID the one that was read.
    files = (str(h.filename) for uid, h in zip(used, reading.headers, strict=True) if uid in wanted)
    return next(map(Path, files), None)


def _notes(reading: Reading) -> tuple[str, ...]:
    counted = reading.facts.get("pixel_notes", {})
    assert isinstance(counted, dict)
    aside = reading.facts.get("set_aside", {})
    assert isinstance(aside, dict)
    notes = [f"{note}: {count}" for note, count in counted.items()]
    if aside:
        notes.append(f"set aside: {len(aside)}")
    if others := copies.told(reading.facts):
        notes.append(f"other bytes under the SOP Instance UID of an image: {others}")
    return tuple(notes)


def _uid(header: Dataset, keyword: str) -> str:
    return str(element(header, keyword) or "")
