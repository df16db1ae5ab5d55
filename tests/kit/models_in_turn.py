"""Models that come and go within a budget, in a process whose memory nothing else moves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from structlog.testing import capture_logs

from inference.bundle import open_bundle
from inference.heap import give_back
from inference.model import load_reader
from inference.readers import WarmReaders
from inference.reading import SourceImage
from inference.resident import bytes_in_use


@dataclass(frozen=True, slots=True)
class InTurn:
    """What came of it.

    Attributes
    ----------
    told : list of float
        Of each model, loaded by itself.
    found : list of float
        Of those that were asked in turn.
    n_loaded : list of int
        Models that were loaded after each of them.
    most : int
        Bytes that the process had at most beyond those at the beginning.
    logs : list of dict
    """

    told: list[float]
    found: list[float]
    n_loaded: list[int]
    most: int
    logs: list[dict[str, object]]


def in_turn(
    bundles: Sequence[Path], film: Sequence[SourceImage], order: Sequence[int], memory_mb: int
) -> InTurn:
    """Ask models in turn in a process of its own; what tests leave in theirs comes and goes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_in_turn, bundles, film, order, memory_mb).result()


def _in_turn(
    paths: Sequence[Path], film: Sequence[SourceImage], order: Sequence[int], memory_mb: int
) -> InTurn:
    bundles = [open_bundle(path) for path in paths]
    told = [load_reader(one, "cpu").read(film).findings[0].probability for one in bundles]
    give_back()
    before, most = bytes_in_use("cpu"), 0
    found, n_loaded = [], []
    with capture_logs() as logs:
        readers = WarmReaders("cpu", 4, memory_mb=memory_mb)
        readers.warm({one.name: one for one in bundles})
        for number in order:
            found.append(readers(bundles[number]).read(film).findings[0].probability)
            n_loaded.append(len(readers.loaded))
            most = max(most, bytes_in_use("cpu") - before)
    return InTurn(told, found, n_loaded, most, [dict(entry) for entry in logs])
