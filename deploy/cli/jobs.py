"""``preread jobs`` and ``preread deliveries``: work that waits, and work that was given up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.table import Table

from db import create_engine, deliveries
from db.migrate import check
from db.query import Filter, analyses, rows_of
from db.results import Outcome, record_outcome, reopen
from db.schema import AnalysisState, DeliveryState
from inference.jobs import Job, JobQueue, Priority

from .. import settings
from ..errors import DeployError
from .options import Config
from .output import short_uid, wide_console

_jobs = typer.Typer(help="Analyses that wait, run or failed.", no_args_is_help=True)
_deliveries = typer.Typer(help="Results on their way to the destinations.", no_args_is_help=True)

AnalysisId = Annotated[str, typer.Argument(help="Id of the analysis, or its first characters.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_jobs, name="jobs")
    app.add_typer(_deliveries, name="deliveries")


@contextmanager
def _opened(config: Config) -> Iterator[sa.Engine]:
    engine = create_engine(settings.load(config).db_url)
    try:
        check(engine)
        yield engine
    finally:
        engine.dispose()


@_jobs.command("list")
def list_jobs(
    config: Config = None,
    every: Annotated[bool, typer.Option("--all", help="Ended ones too.")] = False,
) -> None:
    """Print analyses that have no good end yet: pending, failed and cancelled."""
    with _opened(config) as engine:
        with engine.connect() as connection:
            rows = analyses(connection, Filter())
        rows = [row for row in rows if every or row["state"] not in ("done", "not_analysed")]
        known = JobQueue(engine).jobs([row["analysis_id"] for row in rows])
    latest: dict[str, Job] = {job.analysis_id: job for job in sorted(known, key=lambda j: j.id)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("analysis", "model", "state", "job", "attempts", "requested", "reason"):
        table.add_column(column)
    for row in rows:
        job = latest.get(row["analysis_id"])
        table.add_row(
            row["analysis_id"][:12],
            row["model_name"],
            row["state"],
            job.state.value if job else "expired",
            str(job.attempts) if job else "",
            f"{row['requested_at']:%Y-%m-%d %H:%M:%S}",
            row["reason"] or "",
        )
    wide_console().print(table if rows else "no jobs")


@_jobs.command("retry")
def retry_job(analysis: AnalysisId, config: Config = None) -> None:
    """Analyse once more what failed or was cancelled."""
    with _opened(config) as engine:
        queue = JobQueue(engine)
        with engine.begin() as connection:
            row = _find(connection, analysis)
            if not reopen(connection, row["analysis_id"]):
                raise DeployError(
                    f"analysis {row['analysis_id'][:12]} is {row['state']}: only failed and "
                    "cancelled ones can be retried"
                )
            queue.enqueue_again(connection, row["analysis_id"], Priority(row["priority"]))
    print(f"analysis {row['analysis_id'][:12]} is queued again")


@_jobs.command("cancel")
def cancel_job(analysis: AnalysisId, config: Config = None) -> None:
    """Take a pending analysis out of the queue."""
    with _opened(config) as engine:
        with engine.begin() as connection:
            row = _find(connection, analysis)
            outcome = Outcome(
                AnalysisState.CANCELLED, reason_code="cancelled", reason="cancelled by a person"
            )
            if not record_outcome(connection, row["analysis_id"], outcome):
                raise DeployError(
                    f"analysis {row['analysis_id'][:12]} is {row['state']}: only pending ones "
                    "can be cancelled"
                )
        JobQueue(engine).cancel(row["analysis_id"])
    print(f"analysis {row['analysis_id'][:12]} is cancelled")


def _find(connection: sa.Connection, prefix: str) -> dict[str, str]:
    """Return the one analysis whose id begins like that."""
    found = [row for row in analyses(connection, Filter()) if row["analysis_id"].startswith(prefix)]
    if len(found) != 1:
        raise DeployError(f"{len(found) or 'no'} analyses have an id that begins with {prefix!r}")
    return found[0]


@_deliveries.command("list")
def list_deliveries(
    config: Config = None,
    state: Annotated[
        DeliveryState | None, typer.Option(help="State of the delivery; without one all.")
    ] = None,
) -> None:
    """Print deliveries, the latest first."""
    with _opened(config) as engine, engine.connect() as connection:
        equals = {} if state is None else {"state": state.value}
        rows = rows_of(connection, "v_deliveries", order_by="delivery_id", equals=equals)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("delivery", "destination", "study", "kind", "state", "attempts", "asked", "why"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row["delivery_id"]),
            row["destination"],
            short_uid(row["study_instance_uid"]),
            row["kind"],
            row["state"],
            str(row["n_attempts"]),
            f"{row['created_at']:%Y-%m-%d %H:%M:%S}",
            row["last_error"] or "",
        )
    wide_console().print(table if rows else "no deliveries")


@_deliveries.command("retry")
def retry_delivery(
    delivery: Annotated[int, typer.Argument(min=1, max=2**31 - 1, help="Number of the delivery.")],
    config: Config = None,
) -> None:
    """Try a dead letter again, with all its attempts."""
    with _opened(config) as engine, engine.begin() as connection:
        if not deliveries.retry(connection, delivery, datetime.now(UTC)):
            raise DeployError(f"there is no dead letter {delivery}; see preread deliveries list")
    print(f"delivery {delivery} is pending again")
