"""The parts of a node that analyse and deliver; the one that receives is `receiving`.

Here the rooms meet: `inference` is handed the names of the destinations, of which only `scp` knows
more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Protocol

from db.outcomes import Destined
from db.worker_events import WorkerStep, count
from db.workers import WorkerIdentity
from inference.catalogue import open_catalogue
from inference.device_seen import Device
from inference.endings import Ending
from inference.errors import InferenceError
from scp import CommitmentReporter, Deliverer, Destination, Guards
from scp.places import places, takes_from

from . import garbage
from .ground import Ground
from .identity import device_identity
from .left_over import LeftOver
from .machine import Machine
from .notify.notifier import Notifier, Target
from .notify.rule import notified_by
from .settings import Settings
from .worker_metrics import count_events
from .worker_parts import WorkerPlace, worker_places

if TYPE_CHECKING:
    from inference.worker import Worker

# Well within what the supervisor waits before it kills.
_STOP_SECONDS = 30.0


def serve_worker(
    base: Ground, stop: Event, place: WorkerPlace | None = None, machine: Machine | None = None
) -> Ending:
    """Analyse until `stop` is set, or a new process is needed; return why it ended.

    Parameters
    ----------
    base : Ground
    stop : Event
    place : WorkerPlace, optional
        Where it runs, in a node with several workers.
    machine : Machine, optional
        What stands for the device, in tests.
    """
    from inference.device_fault import device_fault

    place = place or WorkerPlace(0, base.settings.inference.device)
    place.settle()
    parts = _Parts(place, machine or Machine(), count_events(base.settings, place.name))
    found = _device(base, parts.place, parts.machine)
    with ExitStack() as stack:
        try:
            worker = stack.enter_context(_worker(base, parts, found))
        except (RuntimeError, MemoryError, InferenceError) as error:
            fault = device_fault(error)
            if found.name == "cpu" or fault is None:
                raise
            # To end would be to start again, and to end again.
            found = Device("cpu", found.name, f"{found.name} cannot be used: {fault}")
            worker = stack.enter_context(_worker(base, parts, found))
        garbage.settle()
        return worker.serve(stop)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a worker is made of, besides settings."""

    place: WorkerPlace
    machine: Machine
    counted: Callable[[str], None]


@contextmanager
def _worker(base: Ground, parts: _Parts, found: Device) -> Iterator[Worker]:
    """Load the models onto a device and yield a worker that is ready."""
    # torch takes seconds to import; only this part needs it.
    from inference.analyst import Analyst, AnalystSettings
    from inference.device import configure_torch
    from inference.engines.choose import EngineSettings, log_choice
    from inference.event_book import EventBook
    from inference.memory import mark_for
    from inference.readers import WarmReaders
    from inference.scheduling import Batcher, DeviceQueue
    from inference.worker import Worker, WorkerSettings
    from inference.worker_id import claim_worker_id

    settings, machine, device = base.settings, parts.machine, found.name
    configure_torch(settings.inference.threads)
    bundles = open_catalogue(settings.inference, settings.model)
    shared = DeviceQueue(settings.inference.batch_wait_ms / 1000)
    with claim_worker_id(settings.data_dir / "workers", device) as worker_id:
        events = EventBook(base.engine, worker_id, device, parts.counted)
        engines = EngineSettings(
            settings.data_dir / "engines",
            settings.inference.threads,
            tell=events.tell,
            announce=log_choice,
            compose=machine.compose,
            share=lambda model, ladder: Batcher(model, ladder, shared),
        )
        readers = WarmReaders(
            machine.place(device),
            settings.inference.batch_size,
            engines,
            memory_mb=settings.inference.model_memory_mb,
        )
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
            stat_slots=settings.inference.stat_slots,
            timeout_seconds=settings.inference.timeout_seconds,
            silence_seconds=settings.inference.silence_seconds,
            grace_seconds=settings.inference.grace_seconds,
            memory=mark_for(settings.inference.memory_mb, len(worker_places(settings))),
        )
        yield Worker(base.engine, analyst, identity, worker_settings, events, shared)


def _device(base: Ground, place: WorkerPlace, machine: Machine) -> Device:
    """Return the device of a place; under ``auto`` a GPU that nobody ever saw is none."""
    from inference.device_seen import device_for

    folder = base.settings.data_dir / "workers"
    losses = partial(_losses, base)
    try:
        return device_for(place.device, folder, machine.device, losses)
    except InferenceError:
        if base.settings.inference.device != "auto":
            raise
        return device_for("auto", folder, machine.device, losses)


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
    parts: tuple[Stoppable, ...] = (
        deliverer,
        Notifier([Target(base.engine, base.files, one) for one in settings.notify]),
        CommitmentReporter(base.engine, base.files, settings.ae),
        LeftOver(
            base.engine, [place.name for place in known], [one.name for one in settings.notify]
        ),
    )
    garbage.settle()
    for part in parts:
        part.start()
    try:
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
