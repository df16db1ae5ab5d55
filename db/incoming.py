"""An image that is being received: written as it comes, digested on the way, kept at its end."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .durable import NewFile, sync_existing
from .errors import DatabaseError

if TYPE_CHECKING:
    from .files import FileStore

# Where the file meta information ends is said at a fixed place (PS3.10 Section 7.1).
_GROUP_LENGTH_AT = 140
_META_AT = 144
# Sent on its way to the disk when there is so much of it: at the end of an image, so that the sync
# finds little left to do, and on the way, so that the page cache holds little of a large one.
_WRITEBACK_AT_END = 128 << 10
_WRITEBACK_BETWEEN = 2 << 20
_TRANSFER_SYNTAX = b"\x02\x00\x10\x00UI"


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


class IncomingImage:
    """An image on its way to the disk.

    Small ones are written at their end, with one system call; larger ones as they come. Whoever
    made it calls `discard` at last, also after `keep` and `quarantine`.

    Attributes
    ----------
    n_bytes : int
        Size of the data set so far.
    """

    def __init__(self, store: FileStore, sop_instance_uid: str, head: bytes) -> None:
        self.n_bytes = 0
        self._store = store
        self._place = store.place_of("images", sop_instance_uid)
        self._head = head
        self._digest = hashlib.sha256()
        self._unwritten: list[memoryview] = []
        self._file: NewFile | None = None

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set; their memory is in use until `flush`."""
        self._unwritten.append(data)
        self.n_bytes += len(data)

    def flush(self) -> None:
        """Write what was taken.

        Raises
        ------
        StorageFullError, DatabaseError
            If it cannot be written.
        """
        self._flush(ends=False)

    @contextmanager
    def data_set(self) -> Iterator[memoryview]:
        """Give the data set as received: from memory if it is still there, else from a map."""
        if self._file is None:
            whole = self._unwritten[0] if len(self._unwritten) == 1 else b"".join(self._unwritten)
            yield memoryview(whole)
            return
        self._flush(ends=True)
        with (
            mmap.mmap(self._file.descriptor, 0, prot=mmap.PROT_READ) as mapped,
            memoryview(mapped) as view,
            view[len(self._head) :] as data_set,
        ):
            yield data_set

    def keep(self) -> StoredFile:
        """Keep the image; on return file and directory entry are on disk.

        Returns
        -------
        StoredFile
            The file that already held these bytes in this transfer syntax, if there was one. Other
            bytes under the same UID get a name of their own.

        Raises
        ------
        StorageFullError, DatabaseError
            If it cannot be written.
        """
        self._write_rest()
        assert self._file is not None
        digest = self._digest.hexdigest()
        syntax = _transfer_syntax(self._head)
        # Equal bytes in another transfer syntax are another image, and need another name.
        content = f"{digest} {syntax.decode('ascii', 'replace')}"
        first, other = self._place.names(content)
        # Looked for first: if the file of the first bytes was lost, its name is not for others.
        paths = (other, first) if Path(f"{self._store.base}/{other}").exists() else (first, other)
        for path in paths:
            final = f"{self._store.base}/{path}"
            if self._file.publish(final):
                return StoredFile(path, len(self._head) + self.n_bytes, digest)
            if _same_image(Path(final), syntax, digest):
                return StoredFile(path, Path(final).stat().st_size, digest)
        raise DatabaseError(f"{final} exists with other bytes")

    def quarantine(self, name: str) -> str:
        """Keep the bytes where no instance is; return the path relative to the root."""
        self._write_rest()
        assert self._file is not None
        final = self._store.quarantine_path(name)
        self._file.publish(str(final))
        return str(final.relative_to(self._store.root))

    def discard(self) -> None:
        """Forget what was not kept."""
        self._unwritten.clear()
        if self._file is not None:
            self._file.close()

    def _write_rest(self) -> None:
        if not self.n_bytes:
            self._unwritten.append(memoryview(b""))
        self._flush(ends=True)

    def _flush(self, *, ends: bool) -> None:
        if not self._unwritten:
            return
        parts, self._unwritten = self._unwritten, []
        if self._file is None:
            self._file = self._store.new_file(self._place.folder)
            self._file.write([self._head, *parts])
        else:
            self._file.write(parts)
        # The disk works while the digest is computed, which is a third of the time of both.
        self._file.start_writeback(_WRITEBACK_AT_END if ends else _WRITEBACK_BETWEEN)
        for part in parts:
            self._digest.update(part)


def _same_image(path: Path, transfer_syntax: bytes, digest: str) -> bool:
    """Tell the same of an image, whose head is compared by its transfer syntax alone."""
    with path.open("rb") as file:
        start = file.read(_META_AT)
        length = int.from_bytes(start[_GROUP_LENGTH_AT:], "little")
        # A file cut short may hold anything here.
        head = start + file.read(min(length, 4096))
        if len(start) < _META_AT or _transfer_syntax(head) != transfer_syntax:
            return False
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            return False
    sync_existing(path)
    return True


def _transfer_syntax(head: bytes) -> bytes:
    """Return the value of Transfer Syntax UID (0002,0010) in a head that this node has written."""
    at = head.find(_TRANSFER_SYNTAX, _META_AT)
    if at < 0:
        return b""
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + length].rstrip(b"\0 ")
