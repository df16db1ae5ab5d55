"""The node's own way: opened by the facts, decoded, prepared, and run by the engine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from cases import Case

from inference.bundle import Bundle
from inference.decode_pool import DecodePool, PoolSettings
from inference.decoded import Batch
from inference.engines.choose import Chosen, EngineSettings, choose_engine
from inference.model import Reader, load_reader
from inference.open_source import index_file
from inference.postprocess import Probabilities
from inference.reading import SourceImage
from inference.scheduling import Batcher, DeviceQueue
from inference.settings import InferenceSettings
from inference.stored_facts import facts_from_bytes

_ASKED = InferenceSettings()


class Node:
    """A warm reader, and the facts of all files as the database has them.

    As in a worker, a few analyses are under way at once and one thread runs the network for all.

    Parameters
    ----------
    device : str
    cache : Path
        Of exported networks.
    threads : int
        Of the engine.
    processes : int
        That decode; 0 decodes in the worker.
    """

    def __init__(
        self, case: Case, bundle: Bundle, device: str, cache: Path, threads: int, processes: int
    ) -> None:
        self._queue = DeviceQueue(_ASKED.batch_wait_ms / 1000)
        settings = EngineSettings(
            cache=cache,
            threads=threads,
            share=lambda model, ladder: Batcher(model, ladder, self._queue),
        )
        reader = load_reader(bundle, device, _ASKED.batch_size, settings)
        assert isinstance(reader, Reader)
        self._reader = reader
        self._series = [
            [(path, index_file(path).to_bytes()) for path in one] for one in case.series
        ]
        self._reader.decoding.close()
        self._reader.decoding = DecodePool(PoolSettings(processes=processes))
        self._reader.decoding.start()
        self._slots = ThreadPoolExecutor(_ASKED.concurrency)

    def __call__(self) -> Probabilities:
        """Return the probabilities of all rows, in the order of the files."""
        return np.concatenate(list(self._slots.map(self._analysis, range(len(self._series)))))

    def prepared(self) -> list[Batch]:
        """Return what the network is given."""
        return [b for one in self._series for b in self._reader.decode(_images(one)).batches]

    def _analysis(self, number: int) -> Probabilities:
        with self._queue.turn(str(number)):
            batches = self._reader.decode(_images(self._series[number])).batches
            return np.concatenate([self._reader.scores(batch) for batch in batches])

    def close(self) -> None:
        self._slots.shutdown()
        self._queue.close()
        self._reader.decoding.close()


class Bare:
    """The network alone, on the same engine with the same batches."""

    def __init__(
        self, bundle: Bundle, batches: Sequence[Batch], device: str, cache: Path, threads: int
    ) -> None:
        settings = EngineSettings(cache=cache, threads=threads)
        self.chosen: Chosen = choose_engine(bundle, device, settings)
        identity = self.chosen.engine.identity
        self.identity = f"{identity.name} {identity.version}"
        self._rows = [
            batch.tensor[start : start + identity.best_batch]
            for batch in batches
            for start in range(0, len(batch.tensor), identity.best_batch)
        ]

    def __call__(self) -> Probabilities:
        outputs = [self.chosen.engine.run(rows).tensors[0] for rows in self._rows]
        return 1 / (1 + np.exp(-np.concatenate(outputs).astype(np.float64)))


def _images(kept: Sequence[tuple[Path, bytes]]) -> tuple[SourceImage, ...]:
    # Numbered as the files are, which are named by it: rows come in their order.
    return tuple(
        SourceImage(number, f"{number:04d}", "", "", path, facts_from_bytes(facts))
        for number, (path, facts) in enumerate(kept)
    )
