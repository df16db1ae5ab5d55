"""New files that are on disk when they get to be known: written, named, synced.

A new file has no name while it is written, where the file system allows that (``O_TMPFILE``): a
process that is killed leaves nothing behind. It is linked under its final name before it is synced,
because one journal commit then covers content, name and folder; a power loss in between can leave
a file cut short under its final name, which nobody was told of and which recovery finds.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from .errors import DatabaseError, StorageFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# writev takes at most 1024 parts (IOV_MAX).
_MOST_PARTS = 1000
_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)


class NewFile:
    """A file that is being written.

    Parameters
    ----------
    folder : str
        Where it will lie.
    temporary : str or None
        Its name until then; None makes it without one.
    sync : callable, optional
        Given descriptor and folder, returns when both are on disk, or raises OSError.

    Attributes
    ----------
    descriptor : int
        The open file.
    n_bytes : int
        Written so far.

    Raises
    ------
    StorageFullError
        From every method, if the disk is full.
    DatabaseError
        From every method, if the file cannot be written.
    """

    def __init__(
        self, folder: str, temporary: str | None, sync: Callable[[int, str], None] | None = None
    ) -> None:
        self._folder = folder
        self._temporary = temporary
        self._sync = sync or sync_both
        self.n_bytes = self._n_started = 0
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            if temporary is None:
                self.descriptor = os.open(folder, flags | os.O_TMPFILE, 0o666)
            else:
                self.descriptor = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise failed(error, folder) from error

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Append."""
        try:
            for at in range(0, len(parts), _MOST_PARTS):
                self.n_bytes += _write_all(self.descriptor, parts[at : at + _MOST_PARTS])
        except OSError as error:
            raise failed(error, self._folder) from error

    def start_writeback(self, at_least: int) -> None:
        """Let the disk begin with what was written, if it is so many bytes; do not wait for it."""
        n_bytes = self.n_bytes - self._n_started
        if n_bytes < at_least or _sync_file_range is None:
            return
        # A hint: what it returns does not matter, the sync at the end does.
        _sync_file_range(
            self.descriptor,
            ctypes.c_int64(self._n_started),
            ctypes.c_int64(n_bytes),
            _SYNC_FILE_RANGE_WRITE,
        )
        self._n_started = self.n_bytes

    def publish(self, final: str) -> bool:
        """Give the file its name; on return content and name are on disk. False if it is taken."""
        try:
            self._link(final)
        except FileExistsError:
            return False
        except OSError as error:
            raise failed(error, final) from error
        try:
            self._sync(self.descriptor, final.rpartition("/")[0])
        except OSError as error:
            with suppress(OSError):  # what is not on disk must not look as if it were
                Path(final).unlink()
            raise failed(error, final) from error
        return True

    def close(self) -> None:
        """Close the file; one without a final name is gone."""
        if self.descriptor < 0:
            return
        os.close(self.descriptor)
        self.descriptor = -1
        if self._temporary is not None:
            Path(self._temporary).unlink(missing_ok=True)

    def _link(self, final: str) -> None:
        # A link, not a rename: a rename would silently replace a file of that name.
        if self._temporary is not None:
            os.link(self._temporary, final)
            return
        # With a folder's descriptor Python calls linkat, which alone can follow the link in /proc.
        os.link(
            f"/proc/self/fd/{self.descriptor}",
            final,
            src_dir_fd=self.descriptor,
            follow_symlinks=True,
        )


def knows_unnamed_files(folder: Path) -> bool:
    """Tell whether files without a name can be made in `folder`, and named later."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        file = NewFile(str(folder), None)
    except (DatabaseError, AttributeError):  # AttributeError: no O_TMPFILE on this system
        return False
    try:
        return file.publish(str(probe))
    except DatabaseError:
        return False
    finally:
        file.close()
        probe.unlink(missing_ok=True)


def sync_existing(path: Path) -> None:
    """Sync a file and its name: whoever wrote it may not have got so far yet."""
    try:
        _sync(path, os.O_RDONLY)
        sync_folder(path.parent)
    except OSError as error:
        raise failed(error, path) from error


def sync_both(descriptor: int, folder: str) -> None:
    """Sync a file and then the names in its folder."""
    os.fsync(descriptor)
    sync_folder(folder)


def sync_folder(folder: str | Path) -> None:
    """Sync the names in a folder."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def failed(error: OSError, path: str | Path) -> DatabaseError:
    """Return what to raise for an error of the operating system."""
    if error.errno in _FULL:
        return StorageFullError(f"no space left for {path}")
    return DatabaseError(f"{path} cannot be written: {error.strerror}")


def _sync(path: str | Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, parts: Sequence[bytes | memoryview]) -> int:
    total = sum(map(len, parts))
    written = os.writev(descriptor, parts) if total else 0
    if written < total:  # a disk about to be full, or more than 2 GiB at once
        rest = memoryview(b"".join(parts))[written:]
        while len(rest):
            rest = rest[os.write(descriptor, rest) :]
    return total
