"""What a worker counts, for Prometheus.

It is a process of its own and counts as an acceptor does, in files that the process which started
it adds up; a worker that nobody started here counts nothing, its events are in the database.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from db.worker_events import WorkerStep

from .metrics import Metric, metrics_folder, share_values
from .settings import Settings

WORKER_EVENTS = Metric(
    "preread_worker_events_total",
    "counter",
    "What happened to workers and their engines, by step; deploy/docs/failures.md says what each "
    "means.",
    "step",
)
ON_CPU = Metric(
    "preread_worker_on_cpu_instead",
    "gauge",
    "Workers that run on the CPU although a GPU is asked for or was there.",
)
WORKER_METRICS = (WORKER_EVENTS, ON_CPU)
_PARENT = "PREREAD_PARENT"


class WorkerCounting:
    """Counts the events of a worker."""

    def __init__(self) -> None:
        counter = Counter(
            WORKER_EVENTS.name, WORKER_EVENTS.meaning, WORKER_EVENTS.labels, registry=None
        )
        self._events = {str(step): counter.labels(str(step)) for step in WorkerStep}
        self._on_cpu = Gauge(
            ON_CPU.name, ON_CPU.meaning, multiprocess_mode="livesum", registry=None
        )

    def event(self, step: str) -> None:
        """Count an event."""
        self._events[step].inc()
        if step == WorkerStep.ON_CPU:
            self._on_cpu.set(1)


def count_ends(settings: Settings) -> Callable[[str], None]:
    """Return what counts how workers ended that could not say so: in who has started them.

    After the one that answers Prometheus has begun to count anew.
    """
    if not share_values(metrics_folder(settings.data_dir), "supervisor"):
        return lambda step: None
    counter = Counter(
        WORKER_EVENTS.name, WORKER_EVENTS.meaning, WORKER_EVENTS.labels, registry=None
    )
    return lambda step: counter.labels(str(step)).inc()


def count_events(settings: Settings, part: str = "worker") -> Callable[[str], None]:
    """Return what counts the events of this worker, if that is asked for and possible.

    Parameters
    ----------
    settings : Settings
    part : str
        Name under which the supervisor knows it.
    """
    wanted = settings.metrics.port and os.environ.get(_PARENT)
    if wanted and share_values(metrics_folder(settings.data_dir), part):
        return WorkerCounting().event
    return lambda step: None
