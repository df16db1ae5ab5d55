"""``preread associations``: who sent what, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from db import create_engine
from db.migrate import check
from db.query import associations as ledger
from db.views import VIEWS

from .. import settings
from .options import Config
from .output import (
    Format,
    print_csv,
    print_json,
    require_unicode,
    since_time,
    wide_console,
    with_json,
)

_JSON_COLUMNS = ("contexts", "refusals")
_RIGHT = ("received", "equal", "refused", "MB", "seconds")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("associations")(associations)


def associations(
    config: Config = None,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.TABLE,
    since: Annotated[
        str | None, typer.Option(help="Opened since then: YYYY-MM-DD or an ISO time, in UTC.")
    ] = None,
    calling_ae: Annotated[str | None, typer.Option(help="AE title of the sender.")] = None,
    open: Annotated[bool, typer.Option("--open", help="Only those that are open now.")] = False,
    refused: Annotated[
        bool, typer.Option("--refused", help="Only rejected ones, and those with refused images.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows to print.")] = 100,
) -> None:
    """Print the association ledger, the latest first."""
    require_unicode(calling_ae)
    engine = create_engine(settings.load(config).db_url)
    check(engine)
    with engine.connect() as connection:
        rows = ledger(
            connection,
            since=since_time(since),
            calling_ae=calling_ae,
            is_open=open,
            is_refused=refused,
            limit=limit,
        )
    if format is Format.JSON:
        print_json([with_json(row, _JSON_COLUMNS) for row in rows])
    elif format is Format.CSV:
        print_csv([*VIEWS["v_associations"]], rows)
    else:
        _print_table(rows)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        "opened", "from", "address", "to", "state", "received", "equal", "refused", "MB", "seconds",
        "why",
    ):  # fmt: skip
        right = column in _RIGHT
        table.add_column(
            column, justify="right" if right else "left", no_wrap=column != "why", overflow="fold"
        )
    for row in rows:
        table.add_row(
            f"{row['opened_at']:%Y-%m-%d %H:%M:%S}",
            row["calling_ae"],
            f"{row['peer_host']}:{row['peer_port']}",
            row["called_ae"],
            row["state"],
            str(row["n_received"]),
            str(row["n_equal"]),
            str(row["n_refused"]),
            f"{row['n_bytes'] / 1e6:.1f}",
            "" if row["seconds"] is None else f"{row['seconds']:.1f}",
            row["reject_reason"] or _refusals(row["refusals"]),
        )
    wide_console().print(table if table.row_count else "no associations")


def _refusals(text: str | None) -> str:
    """Return ``0xA700 2x, 0xC000 1x`` for the JSON of the ledger."""
    return ", ".join(f"{status} {n}x" for status, n in json.loads(text or "{}").items())
