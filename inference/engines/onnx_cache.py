"""Exported networks on disk, each in a folder named by all that it depends on. No torch.

::

    KEY/about.json      what it is, how far it was from torch; or why there is none
    KEY/network.onnx    the network

A folder appears whole or not at all, so that several workers may share them, and is never changed.
What a process was writing when it was ended lies in a folder named ``.new-PID-...`` until another
one writes, or sooner, where it was ended in an orderly way (`discard`).

Every version of a model, of its network or of a library leaves a folder. When it was used last its
time of change tells, and who finds and loads holds a lock on all of them: what no installed model
needs and nobody has used for a month goes (`prune`), never from under who loads it.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from ..bundle import Bundle

# Grows with every change of what is exported or how it is checked.
EXPORTER = 4
_UNFINISHED = ".new-"
# No export takes so long.
_ABANDONED_SECONDS = 3600.0
# Longer than an upgrade is tried before it is taken back.
_UNUSED_SECONDS = 30 * 86400.0
_KEY = re.compile(r"[0-9a-f]{40}")
_ABOUT, _NETWORK = "about.json", "network.onnx"
# What makes the layers of a network, exports them and runs them.
_LIBRARIES = ("torch", "monai", "onnxruntime")
_ROOM = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class About:
    """What is known of an exported network.

    Attributes
    ----------
    sha256 : str
        Of the file; empty where there is none.
    class_maps : bool
        Whether its last output are class maps.
    drift : float
        Largest difference of a probability from what torch gives, over the inputs that were tried.
    mixes_rows : bool
        Whether the result of a row depends on what is beside it; see `row_by_row`.
    refused : str
        Why there is none, although the exporter was there.
    """

    sha256: str = ""
    class_maps: bool = False
    drift: float = 0.0
    mixes_rows: bool = False
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported network, or the reason why there is none.

    Attributes
    ----------
    path : Path
        Of the network.
    """

    path: Path
    about: About


class OnnxCache:
    """A folder of exported networks.

    Parameters
    ----------
    folder : Path
        Made when it is written to first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, bundle: Bundle) -> Exported | None:
        """Return what is stored for a bundle; None if there is nothing, or it is damaged."""
        place = self._folder / key_of(bundle)
        try:
            about = About(**json.loads((place / _ABOUT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        path = place / _NETWORK
        if not about.refused and _sha256(path) != about.sha256:
            return None
        with suppress(OSError):  # others may own it
            os.utime(place)
        return Exported(path, about)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let nobody remove anything inside the block; for who finds and loads."""
        with _locked(self._folder, fcntl.LOCK_SH):
            yield

    def prune(self, needed: Callable[[], Iterable[str]]) -> tuple[str, ...]:
        """Remove networks that nobody needs or has used for a month, unless somebody loads now.

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
                self._remove(place)
        return tuple(place.name for place in gone if not place.exists())

    def _unused(self) -> list[Path]:
        latest = time.time() - _UNUSED_SECONDS
        found = []
        for place in self._folder.iterdir():
            with suppress(OSError):
                if _KEY.fullmatch(place.name) and place.stat().st_mtime < latest:
                    found.append(place)
        return sorted(found)

    def _remove(self, place: Path) -> None:
        """Remove a folder as a whole; what is left of it if this process ends goes later."""
        with suppress(OSError):
            going = place.rename(self._folder / f"{_UNFINISHED}{os.getpid()}-{place.name}")
            shutil.rmtree(going, ignore_errors=True)

    def size(self, bundle: Bundle) -> int:
        """Return the bytes of the network that is stored for a bundle; 0 if there is none."""
        try:
            return (self._folder / key_of(bundle) / _NETWORK).stat().st_size
        except OSError:
            return 0

    def keep(self, bundle: Bundle, write: Callable[[Path], About]) -> Exported:
        """Store what `write` makes for a bundle.

        Parameters
        ----------
        bundle : Bundle
        write : callable
            Writes the network to a path and says what it is, or why there is none.

        Returns
        -------
        Exported
            What is stored: of another process, if that was faster.

        Raises
        ------
        OSError
            If nothing can be written there.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        place = self._folder / key_of(bundle)
        new = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{os.getpid()}-", dir=self._folder))
        try:
            about = write(new / _NETWORK)
            if about.refused:
                (new / _NETWORK).unlink(missing_ok=True)
            else:
                about = replace(about, sha256=_sha256(new / _NETWORK))
            (new / _ABOUT).write_text(json.dumps(asdict(about)) + "\n", encoding="utf-8")
            for path in new.iterdir():
                _sync(path)
            _sync(new)
            try:
                new.rename(place)
            except OSError:  # there is one: of another process, which may load it now, or damaged
                known = self.find(bundle)
                if known is not None:
                    return known
                self._remove(place)
                new.rename(place)
            _sync(self._folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return Exported(place / _NETWORK, about)

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
        except OSError:  # somebody loads, or the file system has no locks
            is_locked = False
        yield is_locked
    finally:
        os.close(handle)


def key_of(bundle: Bundle) -> str:
    """Return the name of a bundle's folder: a digest of all that an exported network depends on."""
    facts = {
        "exporter": EXPORTER,
        "weights": bundle.identity.weights_sha256,
        "network_def": bundle.network_def,
        "input": [bundle.spec.channels, bundle.spec.size, bundle.spec.value_range],
        # These decide whether class maps are wanted, and what drift is.
        "outputs": [len(bundle.outputs), bundle.masks, len(bundle.mapped), bundle.activation],
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "networks": _own_networks(),
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@functools.cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


@functools.cache
def _own_networks() -> str:
    """Return a digest of the code of this project's networks, which a process has read once."""
    digest = hashlib.sha256()
    for path in (*sorted((_ROOM / "networks").glob("*.py")), _ROOM / "lungs.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "none"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
