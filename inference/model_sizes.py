"""What models were found to take in memory, kept for the next process. Light: no torch.

One small file for each model, engine, kind of device and version of the libraries. Of several
measurements the smallest is kept: what comes into memory beside a model, such as a library that the
first one brings, only adds to it.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from .bundle import Bundle

_LIBRARIES = ("torch", "onnxruntime", "openvino")


class ModelSizes:
    """A folder of measurements, shared by all workers of a host.

    Parameters
    ----------
    folder : Path
        Made when there is something to keep.
    device : str
        ``cpu`` or ``cuda:N``; all GPUs are of one kind.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device.partition(":")[0]

    def of(self, bundle: Bundle) -> int | None:
        """Return the bytes that a model takes, None if nobody knows."""
        try:
            told = json.loads(self._path(bundle).read_text(encoding="utf-8"))
            n_bytes = int(told["bytes"])
        except (OSError, ValueError, TypeError, KeyError, OverflowError):  # none yet, or damaged
            return None
        return n_bytes if n_bytes > 0 else None

    def keep(self, bundle: Bundle, n_bytes: int) -> None:
        """Keep a measurement if it is the smallest; what cannot be written is measured again."""
        known = self.of(bundle)
        if known is not None and known <= n_bytes:
            return
        path = self._path(bundle)
        # A name of its own for each process; the rename is what others see.
        new = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps({"model": bundle.name, "bytes": n_bytes}), encoding="utf-8")
            new.replace(path)
            return
        with suppress(OSError):  # a full disk keeps the first half of it
            new.unlink()

    def _path(self, bundle: Bundle) -> Path:
        asked = bundle.engine.to_dict()
        made_of = [bundle.identity.weights_sha256, asked, self._device, *map(_version, _LIBRARIES)]
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{key[:32]}.json"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
