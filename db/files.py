"""The file store: images as received, quarantined bytes and result objects, durable on return.

Layout under the data directory::

    images/<2 hex>/<SOP Instance UID>.dcm      one file per stored instance (PS3.10)
    results/<2 hex>/<SOP Instance UID>.dcm     result objects, re-sent as they are
    quarantine/<name>.bin                      data sets that could not be understood
    incoming/                                  files not yet under their final name
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import DatabaseError, StorageFullError

_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")
_SHARDS = tuple(f"{number:02x}" for number in range(256))
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A durable file.

    Attributes
    ----------
    path : str
        Relative to the data directory.
    size_bytes : int
        Size of the whole file.
    sha256 : str
        Hex digest of the data set as received, without the file meta information.
    """

    path: str
    size_bytes: int
    sha256: str


class FileStore:
    """Files under one data directory.

    Parameters
    ----------
    root : Path
        The data directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._serial = itertools.count()
        # In a container the process id after a restart is the one from before.
        self._token = secrets.token_hex(4)

    def prepare(self) -> None:
        """Make the folders (once, so that storing an image never makes one)."""
        try:
            # What lies here is patient data: nobody else's, unless an administrator says so.
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for area in ("images", "results"):
                for shard in _SHARDS:
                    (self.root / area / shard).mkdir(parents=True, exist_ok=True)
                _sync_folder(self.root / area)
            for area in ("incoming", "quarantine"):
                (self.root / area).mkdir(exist_ok=True)
            _sync_folder(self.root)
        except OSError as error:
            raise DatabaseError(
                f"data_dir {self.root} cannot be prepared: {error.strerror}"
            ) from error

    def write_image(
        self, sop_instance_uid: str, head: bytes, data_set: bytes | memoryview
    ) -> StoredFile:
        """Keep one instance as received; on return file and directory entry are on disk.

        Parameters
        ----------
        sop_instance_uid : str
            From the network: one that is no UID (PS3.5 Section 9.1) never becomes a file name.
        head : bytes
            Preamble, prefix and file meta information (PS3.10 Section 7.1).
        data_set : bytes
            The data set exactly as received.

        Returns
        -------
        StoredFile
            The file that already held these bytes, if there was one. Other bytes under the same
            UID get a name of their own.

        Raises
        ------
        StorageFullError
            If the disk is full; nothing is left behind.
        """
        digest = hashlib.sha256(data_set).hexdigest()
        return self._keep("images", sop_instance_uid, (head, data_set), digest, len(head))

    def write_result(self, sop_instance_uid: str, content: bytes) -> StoredFile:
        """Keep the bytes of a result object; `sha256` is the digest of the whole file."""
        digest = hashlib.sha256(content).hexdigest()
        return self._keep("results", sop_instance_uid, (content,), digest, 0)

    def quarantine(self, name: str, parts: Iterable[bytes | memoryview]) -> str:
        """Keep bytes that could not be understood; return the path relative to the root."""
        safe = re.sub(r"[^0-9A-Za-z._-]", "_", name)[:160]
        final = self.root / "quarantine" / f"{safe}.bin"
        self._write(self._incoming(), tuple(parts), final)
        return str(final.relative_to(self.root))

    def absolute(self, path: str) -> Path:
        """Return where a stored path lies; refuse one that leaves the data directory."""
        absolute = (self.root / path).resolve()
        if not absolute.is_relative_to(self.root.resolve()):
            raise DatabaseError(f"stored path {path!r} leaves the data directory")
        return absolute

    def free_bytes(self) -> int:
        """Return what is left on the data directory's file system."""
        return shutil.disk_usage(self.root).free

    def images(self) -> Iterator[Path]:
        """Yield every image file."""
        for shard in _SHARDS:
            yield from sorted((self.root / "images" / shard).glob("*.dcm"))

    def clear_incoming(self) -> int:
        """Remove files that a killed process left unfinished (never acknowledged); count them.

        Files of other processes that still live are left alone.
        """
        removed = 0
        for leftover in (self.root / "incoming").iterdir():
            pid, token, *_ = [*leftover.name.split("-"), ""]
            mine = int(pid) == os.getpid() if pid.isdigit() else False
            if token != self._token and (mine or not _alive(pid)):
                leftover.unlink(missing_ok=True)
                removed += 1
        return removed

    def _keep(
        self,
        area: str,
        uid: str,
        parts: tuple[bytes | memoryview, ...],
        digest: str,
        head_bytes: int,
    ) -> StoredFile:
        name = uid if len(uid) <= 64 and _UID.match(uid) else f"x-{_digest(uid)}"
        folder = self.root / area / _digest(uid)[:2]
        for final in (folder / f"{name}.dcm", folder / f"{name}.{digest[:16]}.dcm"):
            if not final.exists() and self._write(self._incoming(), parts, final):
                break
            if _holds(final, head_bytes, digest):
                _sync_folder(folder)  # whoever wrote it may not have got so far yet
                break
        else:
            raise DatabaseError(f"{final} exists with other bytes")
        return StoredFile(str(final.relative_to(self.root)), final.stat().st_size, digest)

    def _incoming(self) -> Path:
        return self.root / "incoming" / f"{os.getpid()}-{self._token}-{next(self._serial)}"

    def _write(self, temporary: Path, parts: tuple[bytes | memoryview, ...], final: Path) -> bool:
        """Write, sync, name and sync the folder; False if `final` came to exist meanwhile."""
        try:
            with temporary.open("xb", buffering=0) as file:
                for part in parts:
                    _write_all(file.fileno(), part)
                os.fsync(file.fileno())
            # A hard link, not a rename: a rename would silently replace a file of that name.
            os.link(temporary, final)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFullError(f"no space left in {self.root}") from error
            raise DatabaseError(f"{final} cannot be written: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(final.parent)
        return True


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    rest = memoryview(part)
    while len(rest):
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _holds(path: Path, head_bytes: int, digest: str) -> bool:
    """Tell whether the file's data set has that digest; the head is skipped, not compared."""
    with path.open("rb") as file:
        file.seek(_head_length(file.read(144)) if head_bytes else 0)
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _head_length(start: bytes) -> int:
    """Length of preamble and file meta information, from its group length (PS3.10 7.1)."""
    return 144 + int.from_bytes(start[140:144], "little")


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
