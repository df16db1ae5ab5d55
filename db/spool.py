"""One spool file: records of instances that wait for their rows, one JSON object a line.

A file belongs to the process that holds its lock (``flock``), and so to nobody once that process
has died. It has a temporary name until it is locked: nobody can take it away in between.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from pathlib import Path

from .durable import failed, sync_folder
from .instances import InstanceRecord

SUFFIX = ".jsonl"
NEW_SUFFIX = ".new"
# Between making a file and naming it lie microseconds; one that is so old was left by a crash.
_LEFT_SECONDS = 60
_NAMES = tuple(field.name for field in fields(InstanceRecord))
_values = attrgetter(*_NAMES)


@dataclass(frozen=True, slots=True)
class SpooledLine:
    """A line as it stands in the file; `record` is None if it is none (a crash tore it)."""

    text: bytes
    record: InstanceRecord | None


class SpoolFile:
    """A spool file that this process holds the lock of.

    Attributes
    ----------
    path : Path
    n_records : int
        Lines that are not done with.
    """

    def __init__(self, path: Path, descriptor: int, n_records: int) -> None:
        self.path = path
        self.n_records = n_records
        self._descriptor = descriptor
        self._n_bytes = os.fstat(descriptor).st_size
        self._done_bytes = 0

    @classmethod
    def create(cls, folder: Path) -> SpoolFile:
        """Make a new file; names sort by age.

        Raises
        ------
        StorageFullError, DatabaseError
            If it cannot be made.
        """
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        temporary, final = folder / f"{name}{NEW_SUFFIX}", folder / f"{name}{SUFFIX}"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = -1
        try:
            descriptor = os.open(temporary, flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            temporary.rename(final)
            sync_folder(folder)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise failed(error, final) from error
        return cls(final, descriptor, 0)

    @classmethod
    def adopt(cls, path: Path) -> SpoolFile | None:
        """Take over the file of a dead process; None if its process lives or it is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have finished with it between our open and our lock.
            if path.stat().st_ino != os.fstat(descriptor).st_ino:
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return None
        file = cls(path, descriptor, 0)
        file.n_records = sum(1 for _ in file._lines())
        return file

    @staticmethod
    def clear(unborn: Path) -> None:
        """Remove a file that a crash left without its name; nothing was ever written to it."""
        with suppress(OSError):
            if time.time() - unborn.stat().st_mtime > _LEFT_SECONDS:
                unborn.unlink()

    def append(self, records: Sequence[InstanceRecord]) -> None:
        """Append records; durable on return.

        Raises
        ------
        StorageFullError, DatabaseError
            If they could not be written; the file is as before.
        """
        text = b"".join(map(_encoded, records))
        try:
            _write_all(self._descriptor, text)
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._n_bytes)
            raise failed(error, self.path) from error
        self._n_bytes += len(text)
        self.n_records += len(records)

    def read(self, limit: int) -> list[SpooledLine]:
        """Return the next lines that are not done with."""
        lines = []
        for text in self._lines():
            lines.append(SpooledLine(text, _decoded(text)))
            if len(lines) == limit:
                break
        return lines

    def done(self, lines: Sequence[SpooledLine]) -> None:
        """Go past lines that were read; in memory only: after a crash they are indexed again."""
        self._done_bytes += sum(len(line.text) for line in lines)
        self.n_records -= len(lines)

    def remove(self) -> None:
        """Remove the file for good."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)
        self.close()

    def close(self) -> None:
        """Let go of the file; another process may take it over."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(self._done_bytes)
            yield from file


def _encoded(record: InstanceRecord) -> bytes:
    known = dict(zip(_NAMES, _values(record), strict=True))
    known["received_at"] = record.received_at.isoformat()
    return json.dumps(known, separators=(",", ":")).encode("ascii") + b"\n"


def _decoded(text: bytes) -> InstanceRecord | None:
    if not text.endswith(b"\n"):
        return None
    try:
        known = json.loads(text)
        received_at = datetime.fromisoformat(known.pop("received_at"))
        return InstanceRecord(**known, received_at=received_at)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _write_all(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while len(rest):
        rest = rest[os.write(descriptor, rest) :]
