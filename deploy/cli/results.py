"""``preread results``: what was found."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from db import create_engine
from db.migrate import check
from db.query import Filter, analyses, findings, in_progress, is_known
from db.schema import AnalysisState
from db.views import VIEWS

from .. import settings
from .options import Config
from .output import (
    Format,
    print_csv,
    print_json,
    require_unicode,
    short_uid,
    since_time,
    wide_console,
)

_POLL_SECONDS = 0.5
STILL_IN_PROGRESS_STATUS = 1


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("results")(results)


def results(
    config: Config = None,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.TABLE,
    study: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    patient: Annotated[str | None, typer.Option(help="Patient ID.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    finding: Annotated[str | None, typer.Option(help="Name of the finding.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Received since then: YYYY-MM-DD or an ISO time, in UTC.")
    ] = None,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest probability, 0 to 1.")
    ] = None,
    state: Annotated[AnalysisState | None, typer.Option(help="State of the analysis.")] = None,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Wait up to so many seconds for work to end.")
    ] = None,
    every_scope: Annotated[
        bool, typer.Option("--every-scope", help="Single slices of a series too.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most rows to print.")] = 1000,
) -> None:
    """Print findings, and analyses without any; exit status 1 if work goes on after --wait."""
    for text in (study, patient, model, finding):
        require_unicode(text)
    wanted = Filter(study, patient, model, finding, since_time(since), min_probability, state)
    engine = create_engine(settings.load(config).db_url)
    check(engine)
    ended = _wait(engine, wanted, wait)
    with engine.connect() as connection:
        found = findings(connection, wanted, every_scope=every_scope, limit=limit)
        done = analyses(connection, wanted, limit=limit)
    _PRINTERS[format](found, done)
    if not ended:
        print("preread: work is still in progress", file=sys.stderr)
        raise typer.Exit(STILL_IN_PROGRESS_STATUS)


def _wait(engine: sa.Engine, wanted: Filter, seconds: float | None) -> bool:
    """Return whether nothing that matches is in progress any more.

    A study asked for by name may not have arrived yet; it is waited for.
    """
    if seconds is None:
        return True
    deadline = time.monotonic() + seconds
    while True:
        with engine.connect() as connection:
            arrived = wanted.study is None or is_known(connection, wanted)
            if arrived and not in_progress(connection, wanted):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)


def print_table(
    found: Sequence[Mapping[str, Any]],
    done: Sequence[Mapping[str, Any]],
    console: Console | None = None,
) -> None:
    """Print findings, and analyses that have none, for a person."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("patient", "study", "model", "finding", "result", "probability", "seconds"):
        right = column in ("probability", "seconds")
        # Numbers and words that decide are never cut; in a narrow terminal the rest wraps.
        keep = column in ("result", "probability", "finding")
        table.add_column(
            column, justify="right" if right else "left", no_wrap=keep, overflow="fold"
        )
    for row in found:
        table.add_row(
            row["patient_id"] or "",
            short_uid(row["study_instance_uid"]),
            _model(row),
            row["label"],
            row["presence"],
            f"{100 * row['probability']:.1f} %",
            _seconds(row["turnaround_seconds"]),
        )
    for row in done:
        if row["state"] != "done":
            table.add_row(
                row["patient_id"] or "",
                short_uid(row["study_instance_uid"]),
                _model(row),
                row["reason_code"] or "",
                str(row["state"]).replace("_", " "),
                "",
                _seconds(row["total_seconds"]),
            )
    (console or wide_console()).print(table if table.row_count else "no results")


def _model(row: Mapping[str, Any]) -> str:
    # Who reads the table may be waiting for the report; of analyses alone the view does not tell.
    shadow = ", shadow" if row.get("shadow") else ""
    return f"{row['model_name']} {row['model_version']}{shadow}"


def _print_json(found: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]]) -> None:
    print_json({"findings": found, "analyses": done})


def _print_csv(found: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]]) -> None:
    """Print one row for each finding, and one for each analysis that has none."""
    rows = (*({**one, "state": "done"} for one in found), *done)
    print_csv(
        [*VIEWS["v_findings"], "state", "reason_code", "reason"],
        (row for row in rows if "finding_id" in row or row["state"] != "done"),
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


_PRINTERS = {Format.TABLE: print_table, Format.JSON: _print_json, Format.CSV: _print_csv}
