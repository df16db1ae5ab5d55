"""The file store: images as received, quarantined bytes and result objects, durable on return.

Layout under the data directory::

    images/<2 hex>/<SOP Instance UID>.dcm      one file per stored instance (PS3.10)
    results/<2 hex>/<SOP Instance UID>.dcm     result objects, re-sent as they are
    quarantine/<name>.bin                      data sets that could not be understood
    unindexed/                                 records whose rows could not be committed yet
    incoming/                                  files not yet under their final name, where the
                                               file system knows no files without a name
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .digest import DigestHelper
from .durable import NewFile, knows_unnamed_files, sync_existing, sync_folder
from .errors import DatabaseError
from .incoming import IncomingImage, StoredFile
from .syncs import Syncs

_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")
_SHARDS = tuple(f"{number:02x}" for number in range(256))


class FreeSpace(NamedTuple):
    """Bytes and files that a file system still takes from this user."""

    n_bytes: int
    n_files: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of one instance lie: a folder in the data directory, and how they begin."""

    folder: str
    stem: str

    @property
    def first(self) -> str:
        """The path for a file."""
        return f"{self.folder}/{self.stem}.dcm"

    def other(self, content: str) -> str:
        """Return the path if other content has the first."""
        return f"{self.folder}/{self.stem}.{_digest(content)[:16]}.dcm"


class FileStore:
    """Files under one data directory.

    Parameters
    ----------
    root : Path
        The data directory.

    Attributes
    ----------
    in_progress : set of IncomingImage
        Images that are being received.
    digest_helper : DigestHelper
        For an image that is received alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        # Text, for the way of every image: taking paths apart would cost as much as writing it.
        self.base = str(self.root)
        self._serial = itertools.count()
        # In a container the process id after a restart is the one from before.
        self._token = secrets.token_hex(4)
        self._unnamed = False
        self._sync = Syncs().file_and_folder
        self.in_progress: set[IncomingImage] = set()
        self.digest_helper = DigestHelper()

    def prepare(self) -> None:
        """Make the folders (once, so that storing an image never makes one)."""
        try:
            # What lies here is patient data: nobody else's, unless an administrator says so.
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for area in ("images", "results"):
                for shard in _SHARDS:
                    (self.root / area / shard).mkdir(parents=True, exist_ok=True)
                sync_folder(self.root / area)
            for area in ("incoming", "quarantine", "unindexed"):
                (self.root / area).mkdir(exist_ok=True)
            sync_folder(self.root)
        except OSError as error:
            raise DatabaseError(
                f"data_dir {self.root} cannot be prepared: {error.strerror}"
            ) from error
        self._unnamed = knows_unnamed_files(self.root / "incoming")

    def incoming(self, sop_instance_uid: str, head: bytes) -> IncomingImage:
        """Return an image that is about to be received.

        Parameters
        ----------
        sop_instance_uid : str
            From the network: one that is no UID (PS3.5 Section 9.1) never becomes a file name.
        head : bytes
            Preamble, prefix and file meta information (PS3.10 Section 7.1), with the group length
            and the Transfer Syntax UID (0002,0010).
        """
        return IncomingImage(self, sop_instance_uid, head)

    def write_image(
        self, sop_instance_uid: str, head: bytes, data_set: bytes | memoryview
    ) -> StoredFile:
        """Keep an image that is there as a whole; see `incoming` and `IncomingImage.keep`."""
        image = self.incoming(sop_instance_uid, head)
        try:
            image.write(memoryview(data_set))
            return image.keep()
        finally:
            image.discard()

    def write_result(self, sop_instance_uid: str, content: bytes) -> StoredFile:
        """Keep the bytes of a result object; `sha256` is the digest of the whole file."""
        digest = hashlib.sha256(content).hexdigest()
        place = self.place_of("results", sop_instance_uid)
        file = self.new_file(place.folder)
        try:
            file.write([content])
            for path in (place.first, place.other(digest)):
                final = self.root / path
                if file.publish(str(final)) or _same_file(final, digest):
                    return StoredFile(path, len(content), digest)
        finally:
            file.close()
        raise DatabaseError(f"{final} exists with other bytes")

    def quarantine(self, name: str, parts: Iterable[bytes | memoryview]) -> str:
        """Keep bytes that could not be understood; return the path relative to the root."""
        final = self.quarantine_path(name)
        file = self.new_file("quarantine")
        try:
            file.write(tuple(parts))
            file.publish(str(final))
        finally:
            file.close()
        return str(final.relative_to(self.root))

    def quarantine_path(self, name: str) -> Path:
        """Return where quarantined bytes of that name lie."""
        safe = re.sub(r"[^0-9A-Za-z._-]", "_", name)[:160]
        return self.root / "quarantine" / f"{safe}.bin"

    def new_file(self, folder: str) -> NewFile:
        """Open a new file that will lie in `folder`, relative to the data directory."""
        if self._unnamed:
            return NewFile(f"{self.base}/{folder}", None, self._sync)
        name = f"{os.getpid()}-{self._token}-{next(self._serial)}"
        return NewFile(f"{self.base}/{folder}", f"{self.base}/incoming/{name}", self._sync)

    def place_of(self, area: str, uid: str) -> Place:
        """Return where the files of an instance lie: spread evenly over 256 folders."""
        digest = _digest(uid)
        is_name = len(uid) <= 64 and _UID.match(uid) is not None
        return Place(f"{area}/{digest[:2]}", uid if is_name else f"x-{digest}")

    def absolute(self, path: str) -> Path:
        """Return where a stored path lies; refuse one that leaves the data directory."""
        absolute = (self.root / path).resolve()
        if not absolute.is_relative_to(self.root.resolve()):
            raise DatabaseError(f"stored path {path!r} leaves the data directory")
        return absolute

    def free_space(self) -> FreeSpace:
        """Return what is left on the data directory's file system."""
        found = os.statvfs(self.base)
        # Some file systems make inodes as they need them, and say 0 of 0.
        n_files = found.f_favail if found.f_files else sys.maxsize
        return FreeSpace(found.f_bavail * found.f_frsize, n_files)

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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _same_file(path: Path, digest: str) -> bool:
    """Tell whether a file is the one meant, and see to it that it is on disk."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            return False
    sync_existing(path)
    return True


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
