"""Who else uses the database while images come in: writers of findings and a reader.

Each runs as a process of its own, started by `mixed`: it prints `READY`, works for the time it was
told, and prints what it did as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import sqlalchemy as sa

from db import create_engine
from db.outcomes import FindingRecord, Outcome, record_outcome
from db.results import mark_started
from db.schema import Analysis, AnalysisState, Presence, Scope, Study

READY = "ready"
_PAGE = 1000
_PAUSE_SECONDS = 0.05
_N_FINDINGS = 6


@dataclass(slots=True)
class Account:
    """What a party did: seconds that each transaction or page took, and errors by type."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def write_findings(url: str, seconds: float, number: int) -> None:
    """Give each second pending analysis an outcome, as a worker does; print the account."""
    engine, account = create_engine(url, pool_size=2), Account()
    print(READY, flush=True)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pending = _pending(engine)
        mine = [one for one in pending if int(one[:8], 16) % 2 == number]
        for analysis in mine:
            began = time.perf_counter()
            try:
                with engine.begin() as connection:
                    mark_started(connection, analysis, f"writer-{number}", "cpu")
                with engine.begin() as connection:
                    record_outcome(connection, analysis, _outcome())
            except sa.exc.SQLAlchemyError as error:
                account.errors.append(type(error).__name__)
            account.seconds.append(time.perf_counter() - began)
        if not mine:
            time.sleep(_PAUSE_SECONDS)
    print(json.dumps(asdict(account)))


def _pending(engine: sa.Engine) -> Sequence[str]:
    with engine.connect() as connection:
        return connection.scalars(
            sa.select(Analysis.id)
            .where(Analysis.state == sa.literal_column("'pending'"))
            .order_by(Analysis.requested_at)
            .limit(20)
        ).all()


def _outcome() -> Outcome:
    findings = tuple(
        FindingRecord(
            label=f"finding-{number}",
            code_value="1",
            code_scheme="99PREREAD",
            code_meaning="Benchmark",
            scope=Scope.SERIES,
            sop_instance_uid=None,
            probability=0.25,
            threshold_low=0.4,
            threshold_high=0.6,
            presence=Presence.ABSENT,
            key_sop_instance_uid=None,
        )
        for number in range(_N_FINDINGS)
    )
    return Outcome(AnalysisState.DONE, findings)


def read_pages(url: str, seconds: float) -> None:
    """Read the list of studies page by page, over and over, as a browser does."""
    engine, account = create_engine(url, pool_size=1), Account()
    print(READY, flush=True)
    end, before = time.perf_counter() + seconds, None
    while time.perf_counter() < end:
        began = time.perf_counter()
        page = sa.select(Study.__table__).order_by(Study.received_at.desc()).limit(_PAGE)
        if before is not None:
            page = page.where(Study.received_at < before)
        try:
            with engine.connect() as connection:
                rows = connection.execute(page).all()
        except sa.exc.SQLAlchemyError as error:
            account.errors.append(type(error).__name__)
            continue
        before = rows[-1].received_at if len(rows) == _PAGE else None
        account.seconds.append(time.perf_counter() - began)
        time.sleep(_PAUSE_SECONDS)
    print(json.dumps(asdict(account)))
