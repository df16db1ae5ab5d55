"""How commands print rows: a table for a person, JSON or CSV for a program."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from rich.console import Console

from ..errors import DeployError

_PIPE_COLUMNS = 180


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def wide_console() -> Console:
    """Return a console for tables; a pipe has no width of its own, so nothing is cut there."""
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    # Without markup: an AE title or a Patient ID may hold brackets.
    return Console(width=width, highlight=False, markup=False)


def print_json(document: object) -> None:
    """Print as JSON; times as ISO text in UTC."""
    json.dump(document, sys.stdout, indent=2, default=_as_json, ensure_ascii=False)
    print()


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print as CSV with a header; columns that are not named are left out."""
    writer = csv.DictWriter(sys.stdout, fieldnames=columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: as_cell(value) for name, value in row.items()} for row in rows)


def with_json(row: Mapping[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """Return a row whose columns of JSON text are unpacked, so that they are not quoted twice."""
    return {
        name: json.loads(value) if name in columns and value else value
        for name, value in row.items()
    }


def short_uid(uid: str) -> str:
    """Return the end of a UID, which tells studies apart."""
    return uid if len(uid) <= 15 else f"...{uid[-12:]}"


def require_unicode(text: str | None) -> None:
    """Refuse bytes of the command line that are no text; no database takes them."""
    if text is not None and not text.isprintable():
        raise DeployError(f"{text!a} is no text")


def since_time(text: str | None) -> datetime | None:
    """Return the time that ``--since`` names; without an offset it is in UTC.

    Raises
    ------
    DeployError
        If it names none.
    """
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise DeployError(f"--since {text!r} is neither YYYY-MM-DD nor an ISO time") from None


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def as_cell(value: object) -> object:
    """Return a value as a cell of CSV."""
    # A spreadsheet would run a patient name that begins like a formula.
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value.isoformat() if isinstance(value, datetime) else value
