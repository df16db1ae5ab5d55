"""What TensorRT built of exported networks, each in a folder of its own. No torch, no TensorRT.

::

    KEY/    engines and timings, as ONNX Runtime's provider names and reads them

The provider sees for itself whether a file fits the GPU and the sizes of batches, and builds anew
where none does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ..bundle import Bundle
from .kept_folders import KeptFolders
from .onnx_cache import key_of, version_of

_FOLDER = "tensorrt"
# An engine is read by the version that built it; its package has the name of a version of CUDA.
_PACKAGES = ("tensorrt-cu12", "tensorrt")


class TensorRtCache:
    """A folder of folders for engines.

    Parameters
    ----------
    engines : Path
        Folder of the exported networks, in which this one is.
    """

    def __init__(self, engines: Path) -> None:
        self._folders = KeptFolders(engines / _FOLDER)

    def place(self, bundle: Bundle) -> Path:
        """Return the folder for what is built of a bundle's network; from now on it is in use.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        key = built_key(bundle)
        place = self._folders.place(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._folders.in_use():
            place.mkdir(exist_ok=True)
            self._folders.use(key)
        return place

    def prune(self, needed: Callable[[], Iterable[Bundle]]) -> tuple[str, ...]:
        """Remove what was built of other bundles and nobody has used for a month.

        Parameters
        ----------
        needed : callable
            Gives the bundles that are installed; asked only if there is something to remove.

        Returns
        -------
        tuple of str
            The keys that are gone.
        """
        return self._folders.prune(
            lambda: [built_key(one) for one in needed() if one.engine.name == "tensorrt"]
        )


def built_key(bundle: Bundle) -> str:
    """Return the name of a bundle's folder: of its exported network, TensorRT and the precision."""
    text = "\n".join((key_of(bundle), bundle.engine.precision, version_of(*_PACKAGES)))
    return hashlib.sha256(text.encode()).hexdigest()[:40]
