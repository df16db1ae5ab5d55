"""``preread jobs``: analyses that wait, and analyses that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.table import Table

from db.outcomes import Outcome, record_outcome
from db.query import Filter, analyses
from db.results import AnalysisRequest, reopen, request_analysis, requested
from db.schema import AnalysisState
from inference.catalogue import open_catalogue
from inference.job_states import Job, Priority
from inference.jobs import JobQueue
from inference.requests import request_of_installed

from .. import settings
from ..errors import DeployError
from .options import Config, opened
from .output import wide_console

_jobs = typer.Typer(help="Analyses that wait, run or failed.", no_args_is_help=True)

_ENDED_BADLY = (AnalysisState.FAILED, AnalysisState.CANCELLED)

AnalysisId = Annotated[str, typer.Argument(help="Id of the analysis, or its first characters.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_jobs, name="jobs")


@_jobs.command("list")
def list_jobs(
    config: Config = None,
    every: Annotated[bool, typer.Option("--all", help="Ended ones too.")] = False,
) -> None:
    """Print analyses that have no good end yet: pending, failed and cancelled."""
    with opened(config) as engine:
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
    """Analyse once more what failed or was cancelled, with the model as it is installed now.

    If that is another one than was asked for, its analysis is a new one.
    """
    with opened(config) as engine:
        queue = JobQueue(engine)
        with engine.begin() as connection:
            row = _find(connection, analysis)
            earlier = requested(connection, row["analysis_id"])
            now = _of_installed(earlier, config)
            if now.id != earlier.id and row["state"] in _ENDED_BADLY:
                _ask_anew(connection, queue, now, earlier)
            elif reopen(connection, earlier.id):
                queue.enqueue_again(connection, earlier.id, Priority(earlier.priority))
            else:
                raise DeployError(
                    f"analysis {earlier.id[:12]} is {row['state']}: only failed and "
                    "cancelled ones can be retried"
                )
    print(
        f"analysis {earlier.id[:12]} is queued again"
        if now.id == earlier.id
        else f"{now.model_name} was changed since: analysis {now.id[:12]} is queued in the place "
        f"of {earlier.id[:12]}"
    )


def _of_installed(earlier: AnalysisRequest, config: Path | None) -> AnalysisRequest:
    """Return the request of the model as it is installed; of one that is not, as it was."""
    loaded = settings.load(config)
    bundle = open_catalogue(loaded.inference, loaded.model).get(earlier.model_name)
    return earlier if bundle is None else request_of_installed(bundle, earlier)


def _ask_anew(
    connection: sa.Connection, queue: JobQueue, now: AnalysisRequest, earlier: AnalysisRequest
) -> None:
    if not request_analysis(connection, now):
        raise DeployError(
            f"analysis {now.id[:12]} is in the place of {earlier.id[:12]} already: retry that one "
            "if it failed"
        )
    queue.enqueue(connection, now.id, Priority(now.priority))


@_jobs.command("cancel")
def cancel_job(analysis: AnalysisId, config: Config = None) -> None:
    """Take a pending analysis out of the queue."""
    with opened(config) as engine:
        queue = JobQueue(engine)
        # As one: between the two somebody could retry it, whose job would be the one cancelled.
        with engine.begin() as connection:
            row = _find(connection, analysis)
            queue.cancel(connection, row["analysis_id"])
            outcome = Outcome(
                AnalysisState.CANCELLED, reason_code="cancelled", reason="cancelled by a person"
            )
            if not record_outcome(connection, row["analysis_id"], outcome):
                raise DeployError(
                    f"analysis {row['analysis_id'][:12]} is {row['state']}: only pending ones "
                    "can be cancelled"
                )
    print(f"analysis {row['analysis_id'][:12]} is cancelled")


def _find(connection: sa.Connection, prefix: str) -> dict[str, str]:
    """Return the one analysis whose id begins like that."""
    found = [row for row in analyses(connection, Filter()) if row["analysis_id"].startswith(prefix)]
    if len(found) != 1:
        raise DeployError(f"{len(found) or 'no'} analyses have an id that begins with {prefix!r}")
    return found[0]
