"""The parts of a node that analyse and deliver; the one that receives is `receiving`.

Here the rooms meet: `inference` is handed the names of the destinations, of which only `scp` knows
more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Protocol

from db.outcomes import Destined
from db.worker_events import WorkerStep, count
from db.workers import WorkerIdentity
from inference.catalogue import open_catalogue
from inference.endings import Ending
from scp import CommitmentReporter, Deliverer, Destination, Guards
from scp.places import places, takes_from

from . import garbage
from .bells import Bell, bell, hearing
from .ground import Ground
from .identity import device_identity
from .left_over import LeftOver
from .machine import Machine
from .notify.notifier import Notifier, Target
from .notify.rule import notified_by
from .settings import Settings
from .worker_metrics import count_events

# Well within what the supervisor waits before it kills.
_STOP_SECONDS = 30.0


def serve_worker(base: Ground, stop: Event, machine: Machine | None = None) -> Ending:
    """Analyse until `stop` is set, or a new process is needed; return why it ended."""
    # torch takes seconds to import; only this part needs it.
    from inference.analyst import Analyst, AnalystSettings
    from inference.device import configure_torch
    from inference.device_seen import device_for
    from inference.engines.choose import EngineSettings, log_choice
    from inference.event_book import EventBook
    from inference.memory import mark_for
    from inference.readers import WarmReaders
    from inference.worker import Worker, WorkerSettings
    from inference.worker_id import claim_worker_id

    settings = base.settings
    machine = machine or Machine()
    folder = settings.data_dir / "workers"
    found = device_for(
        settings.inference.device, folder, machine.device, lambda name: _losses(base, name)
    )
    device = found.name
    configure_torch(settings.inference.threads)
    bundles = open_catalogue(settings.inference, settings.model)
    with claim_worker_id(folder, device) as worker_id:
        events = EventBook(base.engine, worker_id, device, count_events(settings))
        engines = EngineSettings(
            settings.data_dir / "engines",
            settings.inference.threads,
            tell=events.tell,
            announce=log_choice,
            compose=machine.compose,
        )
        readers = WarmReaders(machine.place(device), settings.inference.batch_size, engines)
        readers.warm(bundles)
        analyst = Analyst(
            base.engine,
            base.files,
            bundles,
            readers,
            AnalystSettings(
                worker=worker_id,
                device=device,
                node=device_identity(settings.scp.ae_title, settings.data_dir),
                destinations=destinations_for(settings),
                report_not_analysed=settings.inference.report_not_analysed,
                notify=notified_by(base.engine, settings.notify),
                recorded=bell(settings.data_dir, Bell.OUTBOX),
            ),
        )
        identity = WorkerIdentity(
            worker_id,
            socket.gethostname(),
            os.getpid(),
            device,
            tuple(bundles),
            found.wanted,
            found.trouble,
        )
        worker_settings = WorkerSettings(
            concurrency=settings.inference.concurrency,
            timeout_seconds=settings.inference.timeout_seconds,
            silence_seconds=settings.inference.silence_seconds,
            grace_seconds=settings.inference.grace_seconds,
            memory=mark_for(settings.inference.memory_mb),
        )
        garbage.settle()
        worker = Worker(base.engine, analyst, identity, worker_settings, events)
        with hearing(settings.data_dir, Bell.JOBS, worker.wake):
            return worker.serve(stop)


def _losses(base: Ground, device: str) -> int:
    """Return how often a device of this host was lost within the last hour."""
    since = datetime.now(UTC) - timedelta(hours=1)
    with base.engine.connect() as connection:
        return count(
            connection,
            WorkerStep.DEVICE_LOST,
            device=device,
            host=socket.gethostname(),
            since=since,
        )


def destinations_for(settings: Settings) -> Callable[[str, str | None], tuple[Destined, ...]]:
    """Return what tells where a kind of object goes, by who sent the images."""
    known = places(settings.destination, settings.ae)

    def destined(kind: str, calling_ae: str | None) -> tuple[Destined, ...]:
        return tuple(
            Destined(place.name, place.deadline_hours)
            for place in known
            if kind in place.objects and takes_from(place, calling_ae)
        )

    return destined


def serve_deliver(base: Ground, stop: Event) -> None:
    """Deliver results, notifications and answers until `stop` is set."""
    # It looks into the objects, with what takes seconds to import.
    from .result_check import fallback, fault_of

    settings = base.settings
    guards = Guards(check=fault_of, fallback=fallback)
    known = places(settings.destination, settings.ae)
    deliverer = Deliverer(
        [
            Destination(base.engine, base.files, place, settings.scp.ae_title, guards=guards)
            for place in known
        ]
    )
    notifier = Notifier([Target(base.engine, base.files, one) for one in settings.notify])

    def look() -> None:
        deliverer.wake()
        notifier.wake()

    parts: tuple[Stoppable, ...] = (
        deliverer,
        notifier,
        CommitmentReporter(base.engine, base.files, settings.ae),
        LeftOver(
            base.engine, [place.name for place in known], [one.name for one in settings.notify]
        ),
    )
    garbage.settle()
    for part in parts:
        part.start()
    try:
        with hearing(settings.data_dir, Bell.OUTBOX, look):
            stop.wait()
    finally:
        stop_together(parts, _STOP_SECONDS)


class Stoppable(Protocol):
    """A part of a process with threads of its own."""

    def start(self) -> None:
        """Start and return."""

    def tell_to_stop(self) -> None:
        """Begin nothing new; return at once."""

    def stop(self, seconds: float = ...) -> None:
        """Stop, waiting for so long at most."""


def stop_together(parts: Sequence[Stoppable], seconds: float) -> None:
    """Stop all parts at the same time, within `seconds` in all."""
    for part in parts:
        part.tell_to_stop()
    deadline = time.monotonic() + seconds
    for part in parts:
        part.stop(max(0.0, deadline - time.monotonic()))
