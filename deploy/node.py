"""The parts of a node, each composed of its rooms: receive, analyse, deliver.

Here the rooms meet: `scp` is handed what to do with a complete series, `inference` is handed the
names of the destinations. Neither knows of the other.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

import sqlalchemy as sa
import structlog

from db import FileStore, create_engine
from db.ingest import Ingest
from db.migrate import check, current, head, upgrade
from db.results import request_analysis
from db.workers import WorkerIdentity
from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.jobs import JobQueue, Priority, prepare
from inference.requests import request_analysis_of
from scp import Deliverer, Destination, SeriesWatch, StorageServer, rules_in_force
from scp.rules import Decision
from scp.series import CompleteSeries
from scp.settings import RuleSettings

from .errors import SettingsError
from .identity import device_identity
from .settings import Settings

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ground:
    """What every part stands on."""

    settings: Settings
    engine: sa.Engine
    files: FileStore


@contextmanager
def ground(settings: Settings, *, pool_size: int | None = None) -> Iterator[Ground]:
    """Open the file store and the database; bring or hold the schema to this version.

    Raises
    ------
    db.DatabaseError
        If the data directory cannot be used or the schema does not fit.
    """
    files = FileStore(settings.data_dir)
    files.prepare()
    engine = create_engine(settings.db_url, pool_size=pool_size or settings.db.pool_size)
    try:
        # Writing is for upgrades only: a part that comes back must not wait for a busy database.
        if settings.db.auto_upgrade and current(engine) != head():
            upgrade_all(engine)
        check(engine)
        yield Ground(settings, engine, files)
    finally:
        engine.dispose()


def upgrade_all(engine: sa.Engine) -> None:
    """Bring the tables of the job engine and ours up to date; ours last, because they say so."""
    prepare(engine)
    upgrade(engine)


def serve_scp(base: Ground, stop: Event) -> None:
    """Receive and route until `stop` is set."""
    settings, engine = base.settings, base.engine
    base.files.clear_incoming()
    bundles = open_catalogue(settings.inference, settings.model)
    rules = usable_rules(settings, bundles)
    queue = JobQueue(engine)
    server = StorageServer(
        settings.scp,
        base.files,
        Ingest(engine),
        engine,
        acceptor_id=f"{socket.gethostname()}:{settings.scp.port}",
    )
    watch = SeriesWatch(
        engine,
        base.files,
        settings.scp,
        rules,
        enqueue_analyses(bundles, queue),
    )
    server.start()
    watch.start()
    try:
        stop.wait()
    finally:
        server.stop()
        watch.stop()
        queue.close()


def usable_rules(settings: Settings, bundles: Mapping[str, Bundle]) -> tuple[RuleSettings, ...]:
    """Return the rules in force whose model is installed.

    Raises
    ------
    SettingsError
        If a rule of the settings names a model that is not installed: its images would wait for
        nobody. A built-in rule without its model is left out.
    """
    for rule in settings.rule:
        if rule.enabled and rule.model not in bundles:
            raise SettingsError(
                f"[[rule]] {rule.name}: model {rule.model} is not installed "
                f"(there are: {', '.join(bundles) or 'none'})"
            )
    in_force = rules_in_force(settings.rule, builtin=settings.scp.builtin_rules)
    return tuple(rule for rule in in_force if rule.model in bundles)


def enqueue_analyses(
    bundles: Mapping[str, Bundle], queue: JobQueue
) -> Callable[[sa.Connection, CompleteSeries, Decision], None]:
    """Return what to do with a complete series, inside the transaction that completes it."""

    def on_complete(connection: sa.Connection, series: CompleteSeries, decision: Decision) -> None:
        for route in decision.routes:
            log = _log.bind(
                trace=series.trace_id, series=series.series_instance_uid, model=route.model
            )
            request = request_analysis_of(
                bundles[route.model],
                study_instance_uid=series.study_instance_uid,
                series_instance_uid=series.series_instance_uid,
                instance_ids=series.instance_ids,
                instance_digest=series.instance_digest,
                priority=route.priority,
                shadow=route.shadow,
                trace_id=series.trace_id,
                received_at=series.last_received_at,
            )
            if request_analysis(connection, request):
                queue.enqueue(connection, request.id, Priority(route.priority))
                log.info("analysis.requested", analysis=request.id[:12], rule=route.rule)
            else:
                log.info("analysis.known", analysis=request.id[:12])

    return on_complete


def serve_worker(base: Ground, stop: Event) -> None:
    """Analyse until `stop` is set."""
    # torch takes seconds to import; only this part needs it.
    from inference.analyst import Analyst, AnalystSettings
    from inference.device import choose_device, configure_torch
    from inference.readers import WarmReaders
    from inference.worker import Worker, WorkerSettings, claim_worker_id

    settings = base.settings
    device = choose_device(settings.inference.device)
    configure_torch(settings.inference.threads)
    bundles = open_catalogue(settings.inference, settings.model)
    readers = WarmReaders(device, settings.inference.batch_size)
    readers.warm(bundles)
    with claim_worker_id(settings.data_dir / "workers", device) as worker_id:
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
            ),
        )
        identity = WorkerIdentity(
            worker_id, socket.gethostname(), os.getpid(), device, tuple(bundles)
        )
        worker_settings = WorkerSettings(
            concurrency=settings.inference.concurrency,
            timeout_seconds=settings.inference.timeout_seconds,
            silence_seconds=settings.inference.silence_seconds,
            grace_seconds=settings.inference.grace_seconds,
        )
        Worker(base.engine, analyst, identity, worker_settings).serve(stop)


def destinations_for(settings: Settings) -> Callable[[str], tuple[str, ...]]:
    """Return which destinations want a kind of object."""

    def names(kind: str) -> tuple[str, ...]:
        return tuple(place.name for place in settings.destination if kind in place.objects)

    return names


def serve_deliver(base: Ground, stop: Event) -> None:
    """Deliver results until `stop` is set."""
    calling_ae = base.settings.scp.ae_title
    deliverer = Deliverer(
        [
            Destination(base.engine, base.files, place, calling_ae)
            for place in base.settings.destination
        ]
    )
    deliverer.start()
    try:
        stop.wait()
    finally:
        deliverer.stop()


PARTS: Mapping[str, Callable[[Ground, Event], None]] = {
    "scp": serve_scp,
    "worker": serve_worker,
    "deliver": serve_deliver,
}
