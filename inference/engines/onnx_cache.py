"""Exported networks on disk, each in a folder named by all that it depends on. No torch.

::

    KEY/about.json      what it is, how far it was from torch; or why there is none
    KEY/network.onnx    the network

A folder appears whole or not at all, so that several workers may share them, and is never changed.
Which go, and when, `kept_folders` says.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from ..bundle import Bundle
from .kept_folders import KeptFolders

# Grows with every change of what is exported or how it is checked.
EXPORTER = 4
_ABOUT, _NETWORK = "about.json", "network.onnx"
# What makes the layers of a network, exports them and runs them.
_LIBRARIES = {
    "torch": ("torch",),
    "monai": ("monai",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}
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
        self._kept = KeptFolders(folder)

    def find(self, bundle: Bundle) -> Exported | None:
        """Return what is stored for a bundle; None if there is nothing, or it is damaged."""
        key = key_of(bundle)
        place = self._kept.place(key)
        try:
            about = About(**json.loads((place / _ABOUT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        path = place / _NETWORK
        if not about.refused and _sha256(path) != about.sha256:
            return None
        self._kept.use(key)
        return Exported(path, about)

    def in_use(self) -> AbstractContextManager[None]:
        """Let nobody remove anything inside the block; for who finds and loads."""
        return self._kept.in_use()

    def prune(self, needed: Callable[[], Iterable[str]]) -> tuple[str, ...]:
        """Remove networks that nobody needs or has used for a month; see `KeptFolders.prune`."""
        return self._kept.prune(needed)

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
        new = self._kept.new()
        place = self._kept.place(key_of(bundle))
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
                self._kept.remove(place.name)
                new.rename(place)
            _sync(self._folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return Exported(place / _NETWORK, about)

    def discard(self) -> None:
        """Remove what this process is writing; for who ends without waiting until it is written."""
        self._kept.discard()


def key_of(bundle: Bundle) -> str:
    """Return the name of a bundle's folder: a digest of all that an exported network depends on."""
    facts = {
        "exporter": EXPORTER,
        "weights": bundle.identity.weights_sha256,
        "network_def": bundle.network_def,
        "input": [bundle.spec.channels, bundle.spec.size, bundle.spec.value_range],
        # These decide whether class maps are wanted, and what drift is.
        "outputs": [len(bundle.outputs), bundle.masks, len(bundle.mapped), bundle.activation],
        "libraries": {name: version_of(*names) for name, names in _LIBRARIES.items()},
        "networks": _own_networks(),
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@functools.cache
def version_of(*packages: str) -> str:
    """Return the version of the first of some packages that is installed, else ``none``."""
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
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
