"""An image that is being received: written as it comes, digested on the way, kept at its end."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .digest import AssistedDigest, Digest
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
_WRITEBACK_BETWEEN = 1 << 20
# Where less comes at once, handing it to another thread takes as long as the digest.
_ASSISTED = 768 << 10
# Of an image that is written as it comes so much stays in memory: what identifies it stands there.
_BEGINNING = 64 << 10
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
        self._digest = Digest()
        self._unwritten: list[memoryview] = []
        self._beginning: Sequence[memoryview] = ()
        self._file: NewFile | None = None
        store.in_progress.add(self)

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set; their memory is in use until it was flushed."""
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

    @property
    def is_holding(self) -> bool:
        """Whether the memory of what the last `flush` wrote is in use until the next has returned.

        `keep`, `quarantine` and `discard` let go of it as well.
        """
        return isinstance(self._digest, AssistedDigest)

    def complete(self) -> None:
        """Write the rest: nothing more will come.

        Raises
        ------
        StorageFullError, DatabaseError
            If it cannot be written.
        """
        if not self.n_bytes:
            self._unwritten.append(memoryview(b""))
        self._flush(ends=True)

    def beginning(self) -> bytes | memoryview:
        """Return the beginning of the data set, or all of it if it is small; once complete."""
        return self._beginning[0] if len(self._beginning) == 1 else b"".join(self._beginning)

    @contextmanager
    def data_set(self) -> Iterator[memoryview]:
        """Give the data set as received, once complete."""
        assert self._file is not None
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
        self.complete()
        assert self._file is not None
        base, first = self._store.base, self._place.first
        digest, syntax = self._digest.hexdigest(), _transfer_syntax(self._head)
        # Equal bytes in another transfer syntax are another image, and need another name.
        other = self._place.other(f"{digest} {syntax.decode('ascii', 'replace')}")
        # Looked for first: if the file of the first bytes was lost, its name is not for others.
        is_there = os.access(f"{base}/{other}", os.F_OK)
        # Twice: what has the name may be found damaged and taken away meanwhile.
        for path in 2 * ((other, first) if is_there else (first, other)):
            if self._file.publish(f"{base}/{path}"):
                return StoredFile(path, len(self._head) + self.n_bytes, digest)
            if known := _as_kept(base, path, syntax, digest):
                return known
        raise DatabaseError(f"{base}/{path} exists with other bytes")

    def quarantine(self, name: str) -> str:
        """Keep the bytes where no instance is; return the path relative to the root."""
        self.complete()
        assert self._file is not None
        self._digest.close()
        final = self._store.quarantine_path(name)
        self._file.publish(str(final))
        return str(final.relative_to(self._store.root))

    def discard(self) -> None:
        """Forget what was not kept."""
        self._store.in_progress.discard(self)
        self._unwritten.clear()
        self._beginning = ()
        self._digest.close()
        if self._file is not None:
            self._file.close()

    def _flush(self, *, ends: bool) -> None:
        if not self._unwritten:
            if not ends:  # memory is to be used again
                self._digest.close()
            return
        parts, self._unwritten = self._unwritten, []
        if self._file is None:
            self._file = self._store.new_file(self._place.folder)
            self._beginning = _first_parts(parts, _BEGINNING)
            if not ends:  # its memory will be used again
                self._beginning = [memoryview(b"".join(self._beginning))]
            self._file.write([self._head, *parts])
        else:
            self._file.write(parts)
        self._digest = self._assisted(self._digest, sum(map(len, parts)))
        if isinstance(self._digest, AssistedDigest):
            self._digest.add(parts)
        # The disk works while the digest is computed.
        self._file.start_writeback(_WRITEBACK_AT_END if ends else _WRITEBACK_BETWEEN)
        if not isinstance(self._digest, AssistedDigest):
            self._digest.add(parts)

    def _assisted(self, digest: Digest, n_bytes: int) -> Digest:
        """Return the digest, with a helper if nobody else needs the processor."""
        helper = self._store.digest_helper
        if isinstance(digest, AssistedDigest) or n_bytes < _ASSISTED or not helper.is_useful:
            return digest
        return AssistedDigest(digest, helper) if len(self._store.in_progress) == 1 else digest


def _as_kept(base: str, path: str, transfer_syntax: bytes, digest: str) -> StoredFile | None:
    """Return a file that is there if it holds the same image."""
    final = Path(f"{base}/{path}")
    try:
        if not _same_image(final, transfer_syntax, digest):
            return None
        return StoredFile(path, final.stat().st_size, digest)
    except FileNotFoundError:
        return None


def _first_parts(parts: Sequence[memoryview], n_bytes: int) -> Sequence[memoryview]:
    taken: list[memoryview] = []
    for part in parts:
        if n_bytes <= 0:
            break
        taken.append(part[:n_bytes])
        n_bytes -= len(part)
    return taken


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
