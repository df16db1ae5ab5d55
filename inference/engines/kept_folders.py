"""Folders of things that took minutes to make, each named by all that it depends on. No torch.

Several processes share them. What a process was writing when it was ended lies in a folder named
``.new-PID-...`` until another one writes, or sooner, where it was ended in an orderly way
(`discard`).

Every version of a model or of a library leaves a folder. When it was used last its time of change
tells, and who looks for one and takes it holds a lock on all of them: what no installed model needs
and nobody has used for a month goes (`prune`), never from under who takes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED = ".new-"
# Nothing takes so long to make.
_ABANDONED_SECONDS = 3600.0
# Longer than an upgrade is tried before it is taken back.
_UNUSED_SECONDS = 30 * 86400.0
_KEY = re.compile(r"[0-9a-f]{40}")


class KeptFolders:
    """A folder of folders, each under its key of 40 hexadecimal digits.

    Parameters
    ----------
    folder : Path
        Made when it is written to first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, key: str) -> Path:
        """Return where the folder of a key is, or would be."""
        return self._folder / key

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let nobody remove anything inside the block; for who looks for a folder and takes it."""
        with _locked(self._folder, fcntl.LOCK_SH):
            yield

    def use(self, key: str) -> None:
        """Note that the folder of a key was used now."""
        with suppress(OSError):  # others may own it
            os.utime(self.place(key))

    def prune(self, needed: Callable[[], Iterable[str]]) -> tuple[str, ...]:
        """Remove folders that nobody needs or has used for a month, unless somebody takes one now.

        Parameters
        ----------
        needed : callable
            Gives the keys to keep; asked only if there is something to remove.

        Returns
        -------
        tuple of str
            The keys that are gone.
        """
        with _locked(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as is_ours:
            old = self._unused() if is_ours else []
            if not old:
                return ()
            kept = set(needed())
            gone = [place for place in old if place.name not in kept]
            for place in gone:
                self.remove(place.name)
        return tuple(place.name for place in gone if not place.exists())

    def _unused(self) -> list[Path]:
        latest = time.time() - _UNUSED_SECONDS
        found = []
        for place in self._folder.iterdir():
            with suppress(OSError):
                if _KEY.fullmatch(place.name) and place.stat().st_mtime < latest:
                    found.append(place)
        return sorted(found)

    def remove(self, key: str) -> None:
        """Remove a folder as a whole; what is left of it if this process ends goes later."""
        with suppress(OSError):
            going = self._folder / f"{_UNFINISHED}{os.getpid()}-{key}"
            shutil.rmtree(self.place(key).rename(going), ignore_errors=True)

    def new(self) -> Path:
        """Return an empty folder to be written and then renamed; OSError if there can be none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        return Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{os.getpid()}-", dir=self._folder))

    def discard(self) -> None:
        """Remove what this process is writing; for who ends without waiting until it is written."""
        for path in self._folder.glob(f"{_UNFINISHED}{os.getpid()}-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what was left unfinished, long ago: those that write now may be elsewhere."""
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[bool]:
    """Lock a folder for the duration of the block; yield whether that could be done."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # it is not there yet
        yield False
        return
    try:
        try:
            fcntl.flock(handle, how)
            is_locked = True
        except OSError:  # somebody takes one, or the file system has no locks
            is_locked = False
        yield is_locked
    finally:
        os.close(handle)
