"""One worker process and two, on a queue that was filled before: analyses per second.

Each worker keeps to a core of its own, as with ``inference.workers = 2``: a worker that may use two
uses more than one, for it decodes and writes while its network runs. That is measured beside it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import sqlalchemy as sa
from field import Field, confined, cpu_seconds, database, wait_for
from images import Studies
from stages import seconds_of

from db import create_engine

# Of each four studies one is a head CT.
_PER_HEAD = 4
_PROBE_SECONDS = 0.03
_BEGIN_AFTER = 4
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """What `n_workers` did in a while.

    Attributes
    ----------
    per_second : float
        Analyses that ended.
    cpu_per_analysis : float
        Processor seconds of the workers for each; the same work takes longer on busy cores.
    cores : float
        Cores that the workers had, of those that they could have had.
    waits : tuple of float
        Seconds that writers waited for the database, of somebody who asked now and then.
    """

    n_workers: int
    seconds: float
    n_films: int
    n_heads: int
    cpu_per_analysis: float
    cores: float
    waits: tuple[float, ...]

    @property
    def n(self) -> int:
        return self.n_films + self.n_heads

    @property
    def per_second(self) -> float:
        return self.n / self.seconds


@dataclass(frozen=True, slots=True)
class Scaling:
    """Rounds of one worker and two, side by side.

    Attributes
    ----------
    free : tuple of Window
        One worker that may use the cores of both.
    """

    database: str
    rounds: tuple[tuple[Window, Window], ...]
    free: tuple[Window, ...]

    @property
    def ratio(self) -> float:
        """Analyses per second of two workers over those of one; the median of the rounds."""
        return median(two.per_second / one.per_second for one, two in self.rounds)

    @property
    def cpu_ratio(self) -> float:
        """What an analysis costs of processor time with two workers, over one."""
        return median(two.cpu_per_analysis / one.cpu_per_analysis for one, two in self.rounds)


def run(folder: Path, on: str, n_studies: int, seconds: float, rounds: int) -> Scaling:
    """Queue `n_studies`, then measure for `seconds` at a time; nothing but workers runs then."""
    with database(on) as url, Field(folder / "node", url, scp="quiet_seconds = 1") as field:
        _fill(field, Studies(), n_studies)
        taken, free = [], []
        for number in range(rounds):
            # Now the one goes first, now the two: what happens meanwhile happens to both.
            windows = {}
            for n_workers in (1, 2) if number % 2 == 0 else (2, 1):
                _have(field, ("first", "second")[:n_workers])
                windows[n_workers] = _window(field, n_workers, seconds)
            taken.append((windows[1], windows[2]))
            _have(field, ("free",))
            free.append(_window(field, 1, seconds))
    return Scaling(on, tuple(taken), tuple(free))


def _fill(field: Field, studies: Studies, n_studies: int) -> None:
    """Send studies to a node without a worker, and wait until all are queued."""
    field.start("scp")
    for number in range(n_studies):
        field.send(studies.head() if number % _PER_HEAD == 0 else [studies.film()])
    wait_for(lambda: field.n_in("pending") >= n_studies, 120, "the queue")
    field.stop("scp")


def _have(field: Field, names: Sequence[str]) -> None:
    for name in [other for other in field.parts if other not in names]:
        field.stop(name)
    first, *others = sorted(os.sched_getaffinity(0))
    second = others[0] if others else first
    cores = {"first": {first}, "second": {second}, "free": {first, second}}
    for name in [other for other in names if other not in field.parts]:
        n_before = field.count("worker.started")
        with confined(cores[name]):
            field.start("worker", name)
        field.wait_for_workers(n_before + 1)


def _window(field: Field, n_workers: int, seconds: float) -> Window:
    names = list(field.parts)
    n_ended = len(_ends(field))
    wait_for(lambda: len(_ends(field)) >= n_ended + _BEGIN_AFTER, 120, "a start", every=0.02)
    with _Probe(field) as probe:
        began, used = time.time(), sum(cpu_seconds(field.pid(name)) for name in names)
        while time.time() < began + seconds and field.n_in("pending") > 2 * n_workers:
            time.sleep(_LOOK_SECONDS)
        ended, later = time.time(), sum(cpu_seconds(field.pid(name)) for name in names)
    inside = [model for at, model in _ends(field) if began < at <= ended]
    n_films = sum(1 for model in inside if model == "pneumothorax")
    passed = ended - began
    return Window(
        n_workers, passed, n_films, len(inside) - n_films,
        (later - used) / max(1, len(inside)), (later - used) / passed, tuple(probe.waits),
    )  # fmt: skip


def _ends(field: Field) -> list[tuple[float, str]]:
    sql = "SELECT finished_at, model_name FROM analysis WHERE finished_at IS NOT NULL"
    return [(seconds_of(at), model) for at, model in field.node.query(sql)]


class _Probe:
    """A writer who changes nothing, and notes how long it took to be let in."""

    _WRITE = sa.text("UPDATE worker SET device = device WHERE id = 'nobody'")

    def __init__(self, field: Field) -> None:
        url = field.node.database_url or f"sqlite:///{field.node.data / 'preread.sqlite'}"
        self._engine = create_engine(url, pool_size=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.waits: list[float] = []

    def __enter__(self) -> _Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._engine.dispose()

    def _ask(self) -> None:
        while not self._stop.wait(_PROBE_SECONDS):
            began = time.perf_counter()
            with self._engine.begin() as connection:
                connection.execute(self._WRITE)
            self.waits.append(time.perf_counter() - began)
