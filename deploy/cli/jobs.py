"""``preread jobs``: analyses that wait, and analyses that failed."""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sa
import typer
from rich.table import Table

from db.outcomes import Outcome, record_outcome
from db.query import Filter, analyses
from db.results import reopen
from db.schema import AnalysisState
from inference.job_states import Job, Priority
from inference.jobs import JobQueue

from ..errors import DeployError
from .options import Config, opened
from .output import wide_console

_jobs = typer.Typer(help="Analyses that wait, run or failed.", no_args_is_help=True)

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
    """Analyse once more what failed or was cancelled."""
    with opened(config) as engine:
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
