"""Readers kept loaded, one for each bundle."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from .bundle import Bundle
from .decode_pool import DecodePool
from .engines.choose import EngineSettings
from .model import LoadedReader, load_reader


class WarmReaders:
    """Loads the reader of a bundle once and keeps it.

    Parameters
    ----------
    device : str
        Where the networks run: ``cpu`` or ``cuda:N``.
    batch_size : int
        Slices on their way through a network at once.
    engines : EngineSettings, optional
        What the site says of engines; without them a CPU runs torch.
    decoding : DecodePool, optional
        Where all readers have their images decoded; without it they do it themselves.
    """

    def __init__(
        self,
        device: str,
        batch_size: int,
        engines: EngineSettings | None = None,
        decoding: DecodePool | None = None,
    ) -> None:
        self._engines = engines
        self._decoding = decoding
        self._device = device
        self._batch_size = batch_size
        self._readers: dict[str, LoadedReader] = {}
        self._loading = threading.Lock()

    def __call__(self, bundle: Bundle) -> LoadedReader:
        """Return the loaded reader of `bundle`."""
        with self._loading:
            if bundle.name not in self._readers:
                reader = load_reader(bundle, self._device, self._batch_size, self._engines)
                reader.decoding = self._decoding or reader.decoding
                self._readers[bundle.name] = reader
            return self._readers[bundle.name]

    def warm(self, bundles: Mapping[str, Bundle]) -> None:
        """Load every bundle now, so that the first study does not wait."""
        for bundle in bundles.values():
            self(bundle)
