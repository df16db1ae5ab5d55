"""Readers kept loaded, one for each bundle, within a budget of memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from .bundle import Bundle
from .decode_pool import DecodePool
from .engines.choose import EngineSettings
from .engines.errors import EngineUnavailableError
from .engines.onnx_cache import OnnxCache, key_of
from .engines.tensorrt_cache import TensorRtCache
from .errors import BundleError
from .heap import give_back
from .model import LoadedReader, load_reader
from .model_sizes import ModelSizes
from .reading import Reading, SourceImage
from .resident import bytes_in_use
from .warm_store import Told, WarmStore

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WarmReader:
    """The reader of a bundle, loaded for as long as it reads."""

    _readers: WarmReaders
    _bundle: Bundle

    def read(self, images: Sequence[SourceImage]) -> Reading:
        """Read a series from files to findings; see `Reader.read`. Several threads may call."""
        return self._readers.read(self._bundle, images)


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
    memory_mb : int
        What all models together may take, MiB of this process or of its GPU; 0 is no limit. Models
        that are in no use go for others that are asked for.
    sizes : ModelSizes, optional
        What models were found to take in other processes, and are found to take in this one.
    load : callable
        As `load_reader`.
    """

    def __init__(
        self,
        device: str,
        batch_size: int,
        engines: EngineSettings | None = None,
        decoding: DecodePool | None = None,
        *,
        memory_mb: int = 0,
        sizes: ModelSizes | None = None,
        load: Callable[..., LoadedReader] = load_reader,
    ) -> None:
        self._engines = engines
        self._decoding = decoding
        self._device = device
        self._batch_size = batch_size
        self._load = load
        self._store = WarmStore[LoadedReader](
            memory_mb << 20, partial(bytes_in_use, device), give_back, self._told, self._size
        )
        self._sizes = sizes
        self._bundles: dict[str, Bundle] = {}

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the models that are loaded, the least recently used first."""
        return self._store.names

    def __call__(self, bundle: Bundle) -> WarmReader:
        """Return the reader of `bundle`."""
        return WarmReader(self, bundle)

    def warm(self, bundles: Mapping[str, Bundle]) -> None:
        """Load bundles now, so that the first study does not wait: as many as there is room for.

        One whose engine cannot be had, or whose weights cannot be loaded, is told and left: its
        analyses fail and say so, and what others read, and receiving, goes on.
        """
        for bundle in bundles.values():
            self._bundles[bundle.name] = bundle
            if not self._store.fits(bundle.name, self._estimate(bundle)):
                _log.info("model.left_out", model=bundle.name, reason="no room beside the others")
                continue
            load = partial(self._made, bundle)
            try:
                with self._store.held(bundle.name, partial(self._estimate, bundle), load):
                    pass
            except (BundleError, EngineUnavailableError) as error:
                _log.error("model.not_loaded", model=bundle.name, reason=str(error))
        if self._engines is not None and self._engines.cache is not None:
            _prune(self._engines.cache, bundles.values())

    def read(self, bundle: Bundle, images: Sequence[SourceImage]) -> Reading:
        """Read a series with a bundle, loading it first if it is not there."""
        estimate, load = partial(self._estimate, bundle), partial(self._made, bundle)
        self._bundles[bundle.name] = bundle
        with self._store.held(bundle.name, estimate, load) as reader:
            return reader.read(images)

    def _made(self, bundle: Bundle) -> LoadedReader:
        reader = self._load(bundle, self._device, self._batch_size, self._engines)
        reader.decoding = self._decoding or reader.decoding
        return reader

    def _size(self, name: str) -> int | None:
        return None if self._sizes is None else self._sizes.of(self._bundles[name])

    def _told(self, told: Told) -> None:
        _log_told(told)
        if told.is_measured and self._sizes is not None:
            self._sizes.keep(self._bundles[told.name], told.n_bytes)

    def _estimate(self, bundle: Bundle) -> int:
        """Return what a model is thought to take: its weights, and what is made of them to run."""
        weights = bundle.weights_path.stat().st_size
        cache = None if self._engines is None else self._engines.cache
        exported = 0 if cache is None else OnnxCache(cache).size(bundle)
        return weights + (exported or weights)


def _prune(engines: Path, bundles: Collection[Bundle]) -> None:
    """Remove what was exported and built for models that are no longer installed."""
    gone = OnnxCache(engines).prune(lambda: map(key_of, bundles))
    built = TensorRtCache(engines).prune(lambda: bundles)
    if gone or built:
        _log.info("engine.pruned", networks=list(gone), tensorrt=list(built))


def _log_told(told: Told) -> None:
    level = _log.warning if told.event == "over_budget" else _log.info
    level(
        f"model.{told.event}",
        model=told.name,
        mb=round(told.n_bytes / (1 << 20), 1),
        all_models_mb=round(told.total_bytes / (1 << 20), 1),
    )
