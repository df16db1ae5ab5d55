"""Many X-rays in a row through one worker: does its memory stay where it is?"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from field import Field, memory_mb
from images import Studies

# So many wait for the worker: it never idles, and no queue of thousands is measured.
_MOST_WAITING, _LEAST_WAITING = 120, 60
_PARTS = ("worker", "scp")
_LOOK_SECONDS = 0.25
# Nothing came to an end for so long: the worker is gone.
_PATIENCE_SECONDS = 300.0
_SETTLED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """After `n` analyses: memory in MB, descriptors and threads of the worker."""

    n: int
    seconds: float
    worker_mb: float
    worker_anonymous_mb: float
    scp_mb: float
    n_descriptors: int
    n_threads: int


@dataclass(frozen=True, slots=True)
class Flat:
    """What a run showed.

    Attributes
    ----------
    n_asked : int
    samples : tuple of Sample
        The first before anything was analysed.
    n_failed : int
        Analyses that ended in any other way than done.
    """

    n_asked: int
    concurrency: int | None
    samples: tuple[Sample, ...]
    n_failed: int

    @property
    def n(self) -> int:
        """How many were analysed."""
        return self.samples[-1].n if self.samples else 0

    @property
    def per_second(self) -> float:
        last = self.samples[-1]
        return last.n / last.seconds if last.seconds else 0.0

    def slope(self, what: str = "worker_mb") -> float | None:
        """MB per 1,000 analyses over the last four fifths, by least squares."""
        settled = [one for one in self.samples if one.n >= _SETTLED_SHARE * self.n]
        return slope([one.n / 1000 for one in settled], [getattr(one, what) for one in settled])

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def slope(xs: list[float], ys: list[float]) -> float | None:
    """The slope of the line through the points by least squares; None for less than three."""
    if len(xs) < 3:
        return None
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    if not spread:
        return None
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread


def run(
    folder: Path, count: int, every: int, concurrency: int | None, note: Path | None = None
) -> Flat:
    """Send `count` films through a node on SQLite; look at the worker every so many.

    `note` is written after each look: a run that takes an hour may be ended before.
    """
    extra = "" if concurrency is None else f"concurrency = {concurrency}\n"
    with Field(folder, None, extra, "quiet_seconds = 0.5") as field:
        for part in _PARTS:
            field.start(part)
        field.wait_for_workers()
        samples, n_sent, n_bad = [_sample(field, 0, 0.0)], 0, 0
        studies, began, last = Studies(), time.monotonic(), time.monotonic()
        n_ended = 0
        while n_ended < count and time.monotonic() - last < _PATIENCE_SECONDS:
            if n_sent - n_ended < _LEAST_WAITING and n_sent < count:
                n_more = min(count - n_sent, _MOST_WAITING - (n_sent - n_ended))
                field.send([studies.film() for _ in range(n_more)])
                n_sent += n_more
            time.sleep(_LOOK_SECONDS)
            ended, n_bad = _ended(field)
            if ended > n_ended:
                n_ended, last = ended, time.monotonic()
            if n_ended // every > samples[-1].n // every or n_ended == count:
                samples.append(_sample(field, n_ended, time.monotonic() - began))
                if note is not None:
                    note.write_text(Flat(count, concurrency, tuple(samples), n_bad).to_json())
    return Flat(count, concurrency, tuple(samples), n_bad)


def _ended(field: Field) -> tuple[int, int]:
    sql = "SELECT state, COUNT(*) FROM analysis WHERE state <> 'pending' GROUP BY state"
    by_state = dict(field.node.query(sql))
    n = sum(by_state.values())
    return n, n - by_state.get("done", 0)


def _sample(field: Field, n: int, seconds: float) -> Sample:
    worker = field.pid("worker")
    return Sample(
        n,
        round(seconds, 1),
        memory_mb(worker),
        memory_mb(worker, "RssAnon"),
        memory_mb(field.pid("scp")),
        sum(1 for _ in Path(f"/proc/{worker}/fd").iterdir()),
        sum(1 for _ in Path(f"/proc/{worker}/task").iterdir()),
    )
