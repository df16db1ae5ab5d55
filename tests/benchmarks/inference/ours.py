"""The node's own way: opened by the facts, decoded, prepared, and run by the engine."""

from __future__ import annotations

from collections.abc import Sequence
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
from inference.stored_facts import facts_from_bytes

# What a worker gives the network at once: `best_batch` of the engines (`scheduling.lane`).
_BATCH, _GPU_BATCH = 4, 32


class Node:
    """A warm reader, and the facts of all files as the database has them.

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
        settings = EngineSettings(cache=cache, threads=threads)
        batch = _BATCH if device == "cpu" else _GPU_BATCH
        reader = load_reader(bundle, device, batch, settings)
        assert isinstance(reader, Reader)
        self._reader = reader
        self._series = [
            [(path, index_file(path).to_bytes()) for path in one] for one in case.series
        ]
        self._reader.decoding.close()
        self._reader.decoding = DecodePool(PoolSettings(processes=processes))
        self._reader.decoding.start()

    def __call__(self) -> Probabilities:
        """Return the probabilities of all rows, in the order of the files."""
        return np.concatenate(
            [
                self._reader.scores(batch)
                for one in self._series
                for batch in self._reader.decode(_images(one)).batches
            ]
        )

    def prepared(self) -> list[Batch]:
        """Return what the network is given."""
        return [b for one in self._series for b in self._reader.decode(_images(one)).batches]

    def close(self) -> None:
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
        self._rows = [batch.tensor for batch in batches]

    def __call__(self) -> Probabilities:
        outputs = [self.chosen.engine.run(rows).tensors[0] for rows in self._rows]
        return 1 / (1 + np.exp(-np.concatenate(outputs).astype(np.float64)))


def _images(kept: Sequence[tuple[Path, bytes]]) -> tuple[SourceImage, ...]:
    # Numbered as the files are, which are named by it: rows come in their order.
    return tuple(
        SourceImage(number, f"{number:04d}", "", "", path, facts_from_bytes(facts))
        for number, (path, facts) in enumerate(kept)
    )
