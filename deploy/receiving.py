"""The part that receives, completes series and routes them.

Here the rooms meet: `scp` is handed what to do with a complete series. Several processes may
receive on one port; the first of them also completes series and looks after what earlier runs left.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event

import sqlalchemy as sa
import structlog

from db.backlog import Backlog
from db.commitments import record_answer
from db.ingest import Ingest
from db.loop_guard import count_requested, is_requested
from db.results import AnalysisRequest, request_analysis, urge_analysis
from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.job_states import Priority
from inference.jobs import JobQueue
from inference.number_words import noun, number_of
from inference.requests import request_analysis_of
from scp import (
    CommitmentDesk,
    SeriesWatch,
    StorageCommitment,
    StorageServer,
    rules_in_force,
)
from scp.observe import Observer
from scp.recover import Recovery
from scp.rule_settings import RuleSettings
from scp.rules import Decision, Route
from scp.series import CompleteSeries

from .acceptors import acceptor_id, acceptor_name
from .bells import Bell, bell
from .errors import SettingsError
from .ground import Ground, receiving_engine, wait_for_schema
from .own_results import own_devices
from .settings import Settings

_log = structlog.get_logger()
_OPEN_FILES = 65536
# Nobody asks more closely when the last image of a series came.
_TOUCH_SECONDS = 0.5
_A_DAY = timedelta(hours=24)


def serve_scp(base: Ground, stop: Event, acceptor: int = 0) -> None:
    """Receive until `stop` is set; as acceptor 0 also complete and route series.

    Images are received from the first moment, also while the database is away. Series are
    completed, and what earlier runs left is looked after, once it is there.

    Raises
    ------
    SettingsError
        If a rule names a model that is not installed.
    scp.errors.ServerError
        If the port cannot be had.
    """
    settings = base.settings
    if settings.scp.transport == "streaming":
        _allow_many_files()
    if acceptor > 0:
        with _receiving(base, acceptor) as (_, ingest, _):
            # One that was killed left files without rows: the next one looks after them, whichever
            # comes first to it.
            if base.is_ready or wait_for_schema(base, stop):
                recovery = Recovery(base.files, ingest, base.engine)
                recovery.start()
                stop.wait()
                recovery.stop()
        return
    bundles = open_catalogue(settings.inference, settings.model)
    rules = usable_rules(settings, bundles)
    with _receiving(base, acceptor) as (server, ingest, observer):
        if not base.is_ready and not wait_for_schema(base, stop):
            return
        queue = JobQueue(base.engine)
        most_a_day = settings.inference.max_analyses_per_study_per_day
        on_complete = enqueue_analyses(bundles, queue, most_a_day, observer.analysis_bounded)
        watch = SeriesWatch(
            base.engine, base.files, settings.scp, rules, on_complete, own_devices(bundles),
            routed=bell(settings.data_dir, Bell.JOBS),
        )  # fmt: skip
        recovery = Recovery(base.files, ingest, base.engine)
        watch.start()
        recovery.start()
        try:
            stop.wait()
        finally:
            server.stop()
            recovery.stop()
            watch.stop()
            queue.close()


def _allow_many_files() -> None:
    """Raise the soft limit of descriptors: connections that say nothing must not use them up.

    It is low only for programs that use ``select()``, such as pynetdicom's reactor.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def _receiving(base: Ground, acceptor: int) -> Iterator[tuple[StorageServer, Ingest, Observer]]:
    settings = base.settings
    engine = receiving_engine(settings)
    commitment_engine = receiving_engine(settings)
    backlog = Backlog(base.files.root / "unindexed", limit=settings.scp.max_unindexed)
    touch_seconds = min(_TOUCH_SECONDS, settings.scp.quiet_seconds / 4)
    ingest = Ingest(engine, backlog, touch_seconds=touch_seconds)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        stack.callback(commitment_engine.dispose)
        stack.callback(ingest.close)
        observer = stack.enter_context(_observer(settings, acceptor, ingest))
        desk = CommitmentDesk(
            commitment_engine, base.files, {one.name for one in settings.ae}, observer=observer
        )
        desk.start()
        stack.callback(desk.stop)
        server = StorageServer(
            settings.scp,
            base.files,
            ingest,
            acceptor_id(settings, acceptor),
            observer=observer,
            commitment=StorageCommitment(
                commitment_engine, desk.open, record_answer, observer=observer
            ),
            reuse_port=settings.n_acceptors > 1,
        )
        stack.callback(server.stop)
        server.start()
        yield server, ingest, observer


@contextmanager
def _observer(settings: Settings, acceptor: int, ingest: Ingest) -> Iterator[Observer]:
    """Count for Prometheus, if that is asked for and there is room to."""
    if settings.metrics.port:
        from .metrics import Counting, metrics_folder, sampled, share_values

        if share_values(metrics_folder(settings.data_dir), acceptor_name(acceptor)):
            counting = Counting()
            with sampled(counting, ingest):
                yield counting
            return
    yield Observer()


def usable_rules(settings: Settings, bundles: Mapping[str, Bundle]) -> tuple[RuleSettings, ...]:
    """Return the rules in force whose model is installed.

    Raises
    ------
    SettingsError
        If a rule of the settings names a model that is not installed: its images would wait for
        nobody. A built-in rule without its model is left out.
    """
    for rule in settings.rule:
        if rule.enabled and rule.model is not None and rule.model not in bundles:
            raise SettingsError(
                f"[[rule]] {rule.name}: model {rule.model} is not installed "
                f"(there are: {', '.join(bundles) or 'none'})"
            )
    in_force = rules_in_force(settings.rule, builtin=settings.scp.builtin_rules)
    return tuple(rule for rule in in_force if rule.model is None or rule.model in bundles)


def enqueue_analyses(
    bundles: Mapping[str, Bundle],
    queue: JobQueue,
    most_a_day: int = 0,
    on_bounded: Callable[[], None] = lambda: None,
) -> Callable[[sa.Connection, CompleteSeries, Decision], Decision]:
    """Return what to do with a complete series, inside the transaction that completes it.

    Parameters
    ----------
    bundles : mapping of str to Bundle
    queue : JobQueue
    most_a_day : int
        Analyses of one study in 24 hours; 0 is without limit.
    on_bounded : callable
        Called for each analysis that is not asked for because of it.
    """

    def on_complete(
        connection: sa.Connection, series: CompleteSeries, decision: Decision
    ) -> Decision:
        bounded: list[Route] = []
        for route in decision.routes:
            log = _log.bind(
                trace=series.trace_id, series=series.series_instance_uid, model=route.model
            )
            request = _request(bundles[route.model], series, route)
            if is_bounded(connection, request):
                bounded.append(route)
                on_bounded()
                log.error("analysis.bounded", analysis=request.id[:12], most_a_day=most_a_day)
            elif request_analysis(connection, request):
                queue.enqueue(connection, request.id, Priority(route.priority))
                log.info("analysis.requested", analysis=request.id[:12], rule=route.rule)
            else:
                log.info("analysis.known", analysis=request.id[:12])
                if _is_raised(connection, queue, request):
                    log.info("analysis.raised", analysis=request.id[:12], rule=route.rule)
        if not bounded:
            return decision
        return Decision(
            tuple(route for route in decision.routes if route not in bounded),
            (*decision.reasons, *(f"{route.model}: not asked, {_bound}" for route in bounded)),
        )

    def is_bounded(connection: sa.Connection, request: AnalysisRequest) -> bool:
        if not most_a_day or is_requested(connection, request.id):
            return False
        since = datetime.now(UTC) - _A_DAY
        return count_requested(connection, request.study_instance_uid, since) >= most_a_day

    _bound = (
        f"{number_of(most_a_day, 'analysis', 'analyses')} of this study in 24 hours "
        f"{noun(most_a_day, 'is', 'are')} the most "
        "(inference.max_analyses_per_study_per_day)"
    )
    return on_complete


def _is_raised(connection: sa.Connection, queue: JobQueue, known: AnalysisRequest) -> bool:
    """Raise a known analysis that is STAT by now and still waits; tell whether that was so.

    The job first: one that a worker has taken is left as it is, in our table too. Nothing is ever
    lowered.
    """
    if known.priority != Priority.STAT or not queue.urge(connection, known.id):
        return False
    return urge_analysis(connection, known.id)


def _request(bundle: Bundle, series: CompleteSeries, route: Route) -> AnalysisRequest:
    return request_analysis_of(
        bundle,
        study_instance_uid=series.study_instance_uid,
        series_instance_uid=series.series_instance_uid,
        instance_ids=series.instance_ids,
        instance_digest=series.instance_digest,
        priority=route.priority,
        shadow=route.shadow,
        trace_id=series.trace_id,
        received_at=series.last_received_at,
    )
