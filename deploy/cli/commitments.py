"""``preread commitments``: who asked whether images are kept safe, and what was answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from db import create_engine
from db.migrate import check
from db.query import rows_of
from db.schema import ReportState
from db.views import VIEWS

from .. import settings
from .options import Config
from .output import Format, print_csv, print_json, wide_console, with_json

_JSON_COLUMNS = ("instances", "failures")
_commitments = typer.Typer(help="Storage commitment that senders ask for.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_commitments, name="commitments")


@_commitments.command("list")
def list_commitments(
    config: Config = None,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.TABLE,
    state: Annotated[
        ReportState | None, typer.Option(help="Only those that have come so far.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows to print.")] = 100,
) -> None:
    """Print the requests of senders, the latest first."""
    engine = create_engine(settings.load(config).db_url)
    check(engine)
    with engine.connect() as connection:
        rows = rows_of(
            connection,
            "v_commitments",
            order_by="received_at",
            limit=limit,
            equals=None if state is None else {"state": str(state)},
        )
    if format is Format.JSON:
        print_json([with_json(row, _JSON_COLUMNS) for row in rows])
    elif format is Format.CSV:
        print_csv([*VIEWS["v_commitments"]], rows)
    else:
        _print_table(rows)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("asked", "from", "state", "instances", "failed", "attempts", "why"):
        right = column in ("instances", "failed", "attempts")
        table.add_column(
            column, justify="right" if right else "left", no_wrap=column != "why", overflow="fold"
        )
    for row in rows:
        table.add_row(
            f"{row['received_at']:%Y-%m-%d %H:%M:%S}",
            row["calling_ae"],
            row["state"],
            str(len(json.loads(row["instances"]))),
            "" if row["failures"] is None else str(len(json.loads(row["failures"]))),
            str(row["n_attempts"]),
            row["last_error"] or "",
        )
    wide_console().print(table if table.row_count else "no requests for storage commitment")
