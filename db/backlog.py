"""Instances whose files are durable and whose rows are not: they wait here for the database.

Layout under the backlog's folder::

    <time>-<pid>-<token>.jsonl      records in the order of their arrival, see `db.spool`
    refused-<pid>-<token>.jsonl     records that the database refused for their own fault

Several processes share the folder. What a dead one left behind belongs to whoever asks next.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

from .durable import failed, sync_folder
from .errors import BacklogFullError
from .instances import InstanceRecord
from .spool import NEW_SUFFIX, SUFFIX, SpooledLine, SpoolFile

_REFUSED = "refused-"
# A file of so many records is finished and another begun, so that little is indexed twice.
_FILE_RECORDS = 4096


class Backlog:
    """The waiting records of one process; safe for several threads.

    Parameters
    ----------
    folder : Path
        Made when it is first needed. What lies here is patient data.
    limit : int, default 100000
        Records of this process that may wait.
    """

    def __init__(self, folder: Path, limit: int = 100_000) -> None:
        self._folder = folder
        self._limit = limit
        self._guard = threading.Lock()
        self._active: SpoolFile | None = None
        self._closed: list[SpoolFile] = []
        self._refused = folder / f"{_REFUSED}{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"

    @property
    def n_unindexed(self) -> int:
        """Records that wait for their rows."""
        with self._guard:
            return self._count()

    def append(self, records: Sequence[InstanceRecord]) -> int:
        """Keep records, the first ones if not all may wait; durable on return.

        Returns
        -------
        int
            How many of them are kept.

        Raises
        ------
        BacklogFullError
            If none is.
        StorageFullError, DatabaseError
            If the disk does not take them.
        """
        with self._guard:
            room = self._limit - self._count()
            if room <= 0:
                raise self.full()
            kept = records[:room]
            if self._active is None:
                self._make_folder()
                self._active = SpoolFile.create(self._folder)
            try:
                self._active.append(kept)
            except Exception:
                # Half a line may be in it: never append to it again.
                self._seal()
                raise
            if self._active.n_records >= _FILE_RECORDS:
                self._seal()
            return len(kept)

    def full(self) -> BacklogFullError:
        """Return what to raise for a record that may not wait."""
        return BacklogFullError(
            f"{self._limit} images wait for the database, as many as scp.max_unindexed allows: "
            "start the database, or see why it refuses"
        )

    def adopt(self) -> int:
        """Take over what dead processes left; return how many records that is."""
        if not self._folder.is_dir():
            return 0
        for unborn in self._folder.glob(f"*{NEW_SUFFIX}"):
            SpoolFile.clear(unborn)
        with self._guard:
            known = {one.path for one in (*self._closed, self._active) if one is not None}
            found = [
                file
                for path in self._folder.glob(f"*{SUFFIX}")
                if not path.name.startswith(_REFUSED) and path not in known
                if (file := SpoolFile.adopt(path)) is not None
            ]
            self._closed = sorted((*self._closed, *found), key=lambda file: file.path.name)
            return sum(file.n_records for file in found)

    def oldest(self) -> SpoolFile | None:
        """Return the file to index next; nothing is appended to it any more."""
        with self._guard:
            if not self._closed and self._active is not None:
                self._seal()
            return self._closed[0] if self._closed else None

    def remove(self, file: SpoolFile) -> None:
        """Remove a file whose records all have their rows."""
        with self._guard:
            self._closed.remove(file)
        file.remove()

    def refuse(self, lines: Sequence[SpooledLine]) -> Path:
        """Keep records that the database refuses, for a person to look at; return where."""
        with self._guard:
            is_new = not self._refused.exists()
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(self._refused, flags, 0o600)
                with os.fdopen(descriptor, "ab") as file:
                    for line in lines:
                        file.write(line.text.rstrip(b"\n") + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                if is_new:
                    sync_folder(self._folder)
            except OSError as error:
                raise failed(error, self._refused) from error
        return self._refused

    def close(self) -> None:
        """Let go of the files; their records wait for the next process."""
        with self._guard:
            self._seal()
            for file in self._closed:
                if file.n_records:
                    file.close()
                else:
                    file.remove()
            self._closed = []

    def _count(self) -> int:
        return sum(file.n_records for file in self._closed) + (
            self._active.n_records if self._active is not None else 0
        )

    def _seal(self) -> None:
        if self._active is not None:
            self._closed.append(self._active)
            self._active = None

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self._folder.parent)
        except OSError as error:
            raise failed(error, self._folder) from error
