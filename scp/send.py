"""C-STORE SCU for files on disk: ``preread send``.

The data set goes out as it stands in the file. Every file is looked at before a connection is
made: what is no DICOM file, or is truncated, is reported and the others are sent.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from .errors import AssociationError, IdentityError, Part10Error, ScpError, StructureError
from .header import read_header
from .part10 import read_layout
from .requestor import MAX_CONTEXTS, Context, Peer, is_stored, store_each


@dataclass(frozen=True, slots=True)
class SendableFile:
    """A whole DICOM file, and what has to be known to send it."""

    path: Path
    context: Context
    sop_instance_uid: str
    data_set_offset: int

    def data_set(self) -> bytes:
        """Return the bytes of the data set."""
        with self.path.open("rb") as file:
            file.seek(self.data_set_offset)
            return file.read()


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file: a status from the peer, or an error before there was one."""

    path: Path
    status: int | None
    error: str | None

    @property
    def ok(self) -> bool:
        """Whether the peer stored it."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of all files.

    Attributes
    ----------
    failure : str or None
        Why the rest was not sent, if an association could not be opened.
    """

    outcomes: tuple[FileOutcome, ...]
    failure: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every file was stored."""
        return self.failure is None and all(outcome.ok for outcome in self.outcomes)


OnProgress = Callable[[FileOutcome], None]


def examine(path: Path) -> SendableFile:
    """Look whether a file can be sent, without reading its pixels.

    Raises
    ------
    Part10Error, StructureError, IdentityError
        If it is no DICOM file, is truncated, or does not identify its instance.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise Part10Error("not a DICOM file: empty")
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            layout = read_layout(data)
            with data[layout.data_set_offset :] as data_set:
                header = read_header(data_set, layout.transfer_syntax_uid)
    context = Context(header.sop_class_uid, layout.transfer_syntax_uid)
    return SendableFile(path, context, header.sop_instance_uid, layout.data_set_offset)


def send_files(
    peer: Peer, paths: Iterable[Path], on_progress: OnProgress = lambda outcome: None
) -> SendReport:
    """Send files to a peer.

    Parameters
    ----------
    peer : Peer
    paths : iterable of Path
        DICOM files (PS3.10), in the order in which to send those of one association.
    on_progress : callable
        Told of each file as soon as its outcome is known.
    """
    outcomes: list[FileOutcome] = []

    def tell(outcome: FileOutcome) -> None:
        outcomes.append(outcome)
        on_progress(outcome)

    sendable = []
    for path in paths:
        try:
            sendable.append(examine(path))
        except (Part10Error, StructureError, IdentityError) as error:
            tell(FileOutcome(path, None, str(error)))
        except OSError as error:
            tell(FileOutcome(path, None, error.strerror or "cannot be read"))
    for group in _groups(sendable):
        try:
            _send_group(peer, group, tell)
        except AssociationError as error:
            return SendReport(tuple(outcomes), str(error))
    return SendReport(tuple(outcomes))


def _groups(files: Sequence[SendableFile]) -> Iterator[list[SendableFile]]:
    """Split into groups whose presentation contexts fit into one association."""
    by_context: dict[Context, list[SendableFile]] = defaultdict(list)
    for file in files:
        by_context[file.context].append(file)
    contexts = list(by_context)
    for start in range(0, len(contexts), MAX_CONTEXTS):
        chosen = set(contexts[start : start + MAX_CONTEXTS])
        yield [file for file in files if file.context in chosen]


def _send_group(peer: Peer, files: Sequence[SendableFile], tell: OnProgress) -> None:
    """Send in one association; in another one if the peer breaks it over one of the files."""
    rest = list(files)
    while rest:
        for file, answer in store_each(peer, rest[:]):
            rest.pop(0)
            tell(_outcome(file.path, answer))


def _outcome(path: Path, answer: int | ScpError) -> FileOutcome:
    if isinstance(answer, ScpError):
        return FileOutcome(path, None, str(answer))
    if is_stored(answer):
        return FileOutcome(path, answer, None)
    meaning = STORAGE_SERVICE_CLASS_STATUS.get(answer, ("", "unknown status"))[1]
    return FileOutcome(path, answer, f"refused with status 0x{answer:04X} ({meaning})")
