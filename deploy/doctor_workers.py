"""What ``preread doctor`` says of the workers: who lives, on what they run, and what failed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from db.failures import failed_since
from db.schema import Analysis, AnalysisState
from db.worker_events import WorkerStep, count, latest_reason
from db.workers import WorkerSeen, workers
from inference import InferenceError
from inference.device import choose_device
from inference.number_words import noun, number_of
from inference.worker_id import held_names, is_gone

from .bells import Bell, is_heard
from .check import Check, Verdict
from .settings import Settings
from .worker_parts import worker_places

_LATELY = timedelta(days=1)
# What nobody has to look after: the ladder did, and the analysis went on.
_HARMLESS = frozenset({WorkerStep.SMALLER, WorkerStep.RECYCLED})
_ENDS = (WorkerStep.KILLED, WorkerStep.CRASHED)


def examine_device(wanted: str) -> Iterator[Check]:
    """Yield whether a GPU that `wanted`, ``inference.device``, names is there.

    Nothing is said of ``auto`` and ``cpu``: a worker starts with either. Torch is imported for a
    named GPU only.
    """
    if not wanted.startswith("cuda"):
        return
    try:
        found = choose_device(wanted)
    except InferenceError as error:
        yield Check("device", Verdict.BAD, str(error))
    else:
        yield Check("device", Verdict.GOOD, f"{found} is there")


def examine_workers(settings: Settings, engine: sa.Engine) -> Iterator[Check]:
    """Yield a check for each worker, and of what happened to them and to analyses within a day."""
    now = datetime.now(UTC)
    with engine.connect() as connection:
        found = workers(connection)
        happened = {step: count(connection, step, since=now - _LATELY) for step in WorkerStep}
        ended = latest_reason(connection, _ENDS, now - _LATELY)
        failed = failed_since(connection, now - _LATELY)
        waiting = connection.scalar(
            sa.select(sa.func.count())
            .select_from(Analysis)
            .where(Analysis.state == AnalysisState.PENDING)
        )
    silence = settings.inference.silence_seconds
    gone = [one for one in found if _is_gone(settings, one)]
    for one in found:
        yield _gone(one) if one in gone else _worker(one, now, silence)
    heard = [one for one in found if one not in gone and _seconds(one, now) <= silence]
    yield from _missing(settings, is_heard_elsewhere=bool(heard))
    if waiting and not heard and not held_names(settings.data_dir / "workers"):
        yield Check(
            "analyses",
            Verdict.WARNING,
            f"{number_of(waiting, 'analysis', 'analyses')} {noun(waiting, 'waits', 'wait')}, and "
            "no worker runs: `preread up` starts one, or `preread worker` beside `preread scp`",
        )
    if told := [f"{number} {step}" for step, number in happened.items() if number]:
        bad = any(number for step, number in happened.items() if step not in _HARMLESS)
        yield Check(
            "worker events",
            Verdict.WARNING if bad else Verdict.GOOD,
            f"within 24 hours: {', '.join(told)}{_last_end(ended)}; v_worker_events has them, and "
            "the docs (failures) what to do",
        )
    if failed:
        codes = ", ".join(f"{number} {code}" for code, number in failed.items())
        yield Check(
            "analyses",
            Verdict.WARNING,
            f"{sum(failed.values())} failed within 24 hours: {codes}; `preread jobs list` has "
            "them, the docs (failures) what each code asks for, `preread jobs retry ID` tries one "
            "again",
        )


def _missing(settings: Settings, *, is_heard_elsewhere: bool) -> Iterator[Check]:
    """Yield that fewer workers run than the settings ask for, where the node is up at all."""
    wanted = len(worker_places(settings))
    there = len(held_names(settings.data_dir / "workers"))
    if there >= wanted:
        return
    # Without one here: another part of the node must run, and nobody do its work elsewhere.
    if not there and (is_heard_elsewhere or not is_heard(settings.data_dir, Bell.OUTBOX)):
        return
    yield Check(
        "workers",
        Verdict.WARNING,
        f"{there} of {wanted} run (inference.workers): the log says why the others do not, in what "
        "stands before part.ended; each is started anew within half a minute",
    )


def _last_end(ended: tuple[str, str] | None) -> str:
    return "" if ended is None else f" (last {ended[0]}: {ended[1]})"


def _is_gone(settings: Settings, one: WorkerSeen) -> bool:
    """Tell whether it ran here, and its process has ended without a word."""
    if one.host != socket.gethostname():
        return False
    return is_gone(settings.data_dir / "workers", one.id, one.pid)


def _gone(one: WorkerSeen) -> Check:
    return Check(
        "worker",
        Verdict.WARNING,
        f"{one.id} has ended without a word: its process {one.pid} is gone. Where a node runs it "
        "is started anew within a minute; look at the log, and at the kernel's for memory",
    )


def _seconds(one: WorkerSeen, now: datetime) -> float:
    return (now - one.seen_at).total_seconds()


def _worker(one: WorkerSeen, now: datetime, silence: float) -> Check:
    if _seconds(one, now) > silence:
        return Check(
            "worker",
            Verdict.WARNING,
            f"{one.id} was last seen {_seconds(one, now):.0f} s ago: it was killed, or its node is "
            "not running",
        )
    if one.trouble is not None:
        place = f"{one.id} runs on {one.device}"
        wanted = f", not on {one.wanted_device}" if one.wanted_device else ""
        return Check(
            "worker",
            Verdict.BAD,
            f"{place}{wanted}: {one.trouble}. See to the GPU (nvidia-smi, the kernel's log) and "
            'start the node again; without one set inference.device = "cpu"',
        )
    return Check("worker", Verdict.GOOD, f"{one.id} runs on {one.device}")
