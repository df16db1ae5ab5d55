"""``preread results``: what was found."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
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
from ..errors import DeployError
from .options import Config

_POLL_SECONDS = 0.5
_PIPE_COLUMNS = 180
STILL_IN_PROGRESS_STATUS = 1


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


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
        _require_unicode(text)
    wanted = Filter(study, patient, model, finding, _time(since), min_probability, state)
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


def _require_unicode(text: str | None) -> None:
    """Refuse bytes of the command line that are no text; no database takes them."""
    if text is not None and not text.isprintable():
        raise DeployError(f"{text!a} is no text")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise DeployError(f"--since {text!r} is neither YYYY-MM-DD nor an ISO time") from None


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


def wide_console() -> Console:
    """Return a console for tables; a pipe has no width of its own, so nothing is cut there."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False)


def _model(row: Mapping[str, Any]) -> str:
    return f"{row['model_name']} {row['model_version']}"


def _print_json(found: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]]) -> None:
    document = {"findings": found, "analyses": done}
    json.dump(document, sys.stdout, indent=2, default=_as_json, ensure_ascii=False)
    print()


def _print_csv(found: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]]) -> None:
    """Print one row for each finding, and one for each analysis that has none."""
    columns = [*VIEWS["v_findings"], "state", "reason_code", "reason"]
    writer = csv.DictWriter(sys.stdout, fieldnames=columns, extrasaction="ignore")
    writer.writeheader()
    for row in (*({**one, "state": "done"} for one in found), *done):
        if "finding_id" in row or row["state"] != "done":
            writer.writerow({name: _as_cell(value) for name, value in row.items()})


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _as_cell(value: object) -> object:
    # A spreadsheet would run a patient name that begins like a formula.
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value.isoformat() if isinstance(value, datetime) else value


def short_uid(uid: str) -> str:
    """Return the end of a UID, which tells studies apart."""
    return uid if len(uid) <= 15 else f"...{uid[-12:]}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


_PRINTERS = {Format.TABLE: print_table, Format.JSON: _print_json, Format.CSV: _print_csv}
