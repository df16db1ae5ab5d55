"""The part of a node that analyses: the worker, composed of what the rooms offer.

What takes long to import is imported where it is needed: a worker is to have its first result soon.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import structlog

from inference import InferenceError
from inference.catalogue import open_catalogue
from inference.device_seen import Device
from inference.endings import Ending

from . import garbage, logs
from .bells import Bell, bell, hearing
from .decoding import start_early, started_by_and_by
from .ending import end_now, end_soon
from .ground import Ground
from .loading import StoppedEarlyError, beside, end_at_once, wait_for
from .machine import Machine
from .settings import Settings
from .worker_parts import WorkerPlace, worker_places

if TYPE_CHECKING:
    from inference.decode_pool import DecodePool
    from inference.engines.engine_events import Event as EngineEvent
    from inference.event_book import EventBook
    from inference.readers import WarmReaders
    from inference.scheduling import DeviceQueue
    from inference.worker import Worker
    from inference.worker_settings import WorkerSettings

_log = structlog.get_logger()


def serve_worker(
    base: Ground, stop: Event, place: WorkerPlace | None = None, machine: Machine | None = None
) -> Ending:
    """Analyse until `stop` is set, or a new process is needed; return why it ended.

    Where `stop` is set before the models are loaded the process is ended here.

    Parameters
    ----------
    base : Ground
    stop : Event
    place : WorkerPlace, optional
        Where it runs, in a node with several workers.
    machine : Machine, optional
        What stands for the device, in tests.
    """
    try:
        return _serve(base, stop, place or WorkerPlace(0, base.settings.inference.device), machine)
    except StoppedEarlyError as stopped:
        _log.info("worker.stopped", why=str(stopped))
        end_at_once(_engines_folder(base.settings))


def _serve(base: Ground, stop: Event, place: WorkerPlace, machine: Machine | None) -> Ending:
    place.settle()
    from inference.decode_pool import DecodePool
    from inference.device_fault import device_fault

    with DecodePool(base.settings.inference.decoding) as decoding, ExitStack() as stack:
        start_early(decoding)
        parts = _Parts(place, machine or Machine(), decoding, _counting(base.settings, place))
        found = _device(base, place, parts.machine)
        try:
            worker = stack.enter_context(_worker(base, parts, found, stop))
        except (RuntimeError, MemoryError, InferenceError) as error:
            fault = device_fault(error)
            if found.name == "cpu" or fault is None:
                raise
            # To end would be to start again, and to end again.
            found = Device("cpu", found.name, f"{found.name} cannot be used: {fault}")
            worker = stack.enter_context(_worker(base, parts, found, stop))
        garbage.settle()
        with (
            hearing(base.settings.data_dir, Bell.JOBS, worker.wake),
            started_by_and_by(decoding),
        ):
            ending = worker.serve(stop)
            if worker.is_busy:
                # While the decode processes are there: without them it would fail.
                end_now(ending)
            end_soon(ending)
            return ending


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a worker is made of, besides settings."""

    place: WorkerPlace
    machine: Machine
    decoding: DecodePool
    counted: Callable[[str], None]


@contextmanager
def _worker(base: Ground, parts: _Parts, found: Device, stop: Event) -> Iterator[Worker]:
    """Load the models onto a device and yield a worker that is ready."""
    from inference.device import configure_torch
    from inference.scheduling import DeviceQueue
    from inference.worker_id import claim_worker_id, is_gone

    settings, device = base.settings, found.name
    configure_torch(settings.inference.threads)
    bundles = open_catalogue(settings.inference, settings.model)
    shared = DeviceQueue(settings.inference.batch_wait_ms / 1000)
    with claim_worker_id(_workers_folder(base), device) as worker_id:
        logs.name_worker(worker_id)
        book: Future[EventBook] = Future()
        readers = _readers(settings, parts, device, lambda event: book.result().tell(event), shared)
        # Loading a network leaves Python free to import the rest: the tables, the job engine.
        loaded = beside(partial(readers.warm, bundles))
        from db.workers import WorkerIdentity
        from inference.event_book import EventBook

        events = EventBook(base.engine, worker_id, device, parts.counted)
        book.set_result(events)
        from inference.analyst import Analyst
        from inference.analyst_settings import AnalystSettings
        from inference.late import import_late
        from inference.worker import Worker

        from .destined import destinations_for
        from .identity import device_identity
        from .notify.rule import notified_by

        import_late()
        wait_for(loaded, stop)
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
            worker_id, socket.gethostname(), os.getpid(), device, tuple(bundles), found.wanted,
            found.trouble,
        )  # fmt: skip
        yield Worker(
            base.engine, analyst, identity, _worker_settings(settings), events, shared,
            partial(is_gone, _workers_folder(base)),
        )  # fmt: skip


def _readers(
    settings: Settings,
    parts: _Parts,
    device: str,
    tell: Callable[[EngineEvent], None],
    shared: DeviceQueue,
) -> WarmReaders:
    from inference.engines.choose import EngineSettings, log_choice
    from inference.model_sizes import ModelSizes
    from inference.readers import WarmReaders
    from inference.scheduling import Batcher

    engines = EngineSettings(
        _engines_folder(settings),
        settings.inference.threads,
        tell=tell,
        announce=log_choice,
        compose=parts.machine.compose,
        share=lambda model, ladder: Batcher(model, ladder, shared),
        gpu_decoding=settings.inference.gpu_decoding,
    )
    return WarmReaders(
        parts.machine.place(device),
        settings.inference.batch_size,
        engines,
        parts.decoding,
        memory_mb=settings.inference.model_memory_mb,
        sizes=ModelSizes(settings.data_dir / "workers" / "models", device),
    )


def _worker_settings(settings: Settings) -> WorkerSettings:
    from inference.memory import mark_for
    from inference.worker_settings import WorkerSettings

    return WorkerSettings(
        concurrency=settings.inference.concurrency,
        stat_slots=settings.inference.stat_slots,
        timeout_seconds=settings.inference.timeout_seconds,
        silence_seconds=settings.inference.silence_seconds,
        grace_seconds=settings.inference.grace_seconds,
        memory=mark_for(settings.inference.memory_mb, len(worker_places(settings))),
    )


def _device(base: Ground, place: WorkerPlace, machine: Machine) -> Device:
    """Return the device of a place; under ``auto`` a GPU that nobody ever saw is none."""
    from inference.device_seen import device_for

    losses = partial(_losses, base)
    try:
        return device_for(place.device, _workers_folder(base), machine.device, losses)
    except InferenceError:
        if base.settings.inference.device != "auto":
            raise
        return device_for("auto", _workers_folder(base), machine.device, losses)


def _counting(settings: Settings, place: WorkerPlace) -> Callable[[str], None]:
    """Return what counts events of this worker; Prometheus is imported where it is asked for."""
    if not settings.metrics.port:
        return lambda _step: None
    from .worker_metrics import count_events

    return count_events(settings, place.name)


def _losses(base: Ground, device: str) -> int:
    """Return how often workers of this data directory lost a device within the last hour."""
    from db.worker_events import WorkerStep, count
    from inference.worker_id import name_stem

    since = datetime.now(UTC) - timedelta(hours=1)
    with base.engine.connect() as connection:
        return count(
            connection,
            WorkerStep.DEVICE_LOST,
            device=device,
            host=name_stem(_workers_folder(base)),
            since=since,
        )


def _engines_folder(settings: Settings) -> Path:
    return settings.data_dir / "engines"


def _workers_folder(base: Ground) -> Path:
    return base.settings.data_dir / "workers"
