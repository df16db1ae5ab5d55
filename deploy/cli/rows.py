"""Rows that a command prints as they come: thousands of files stream, a file appears whole."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from inference.evaluation.whole_file import whole_text

from .output import Format, as_cell

Row = Mapping[str, Any]
# Rows that a table looks at before it decides how wide its columns are.
_LOOKED_AT = 200


def print_rows(
    rows: Iterable[Row], columns: Sequence[str], form: Format, out: Path | None = None
) -> None:
    """Print rows as they come, to standard output or to a file that appears when all are in.

    Parameters
    ----------
    rows : iterable of mapping
    columns : sequence of str
        What of them is printed, in this order; what a row lacks is empty.
    form : Format
    out : Path, optional

    Raises
    ------
    InferenceError
        If the file cannot be written.
    """
    with nullcontext(sys.stdout) if out is None else whole_text(out) as file:
        _FORMS[form](rows, columns, file)


def _csv(rows: Iterable[Row], columns: Sequence[str], file: TextIO) -> None:
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([as_cell(_text(row.get(name))) for name in columns] for row in rows)


def _json(rows: Iterable[Row], columns: Sequence[str], file: TextIO) -> None:
    begin = "["
    for row in rows:
        shown = {name: row.get(name) for name in columns}
        file.write(f"{begin}\n  {json.dumps(shown, ensure_ascii=False, allow_nan=False)}")
        begin = ","
    file.write("[]\n" if begin == "[" else "\n]\n")


def _table(rows: Iterable[Row], columns: Sequence[str], file: TextIO) -> None:
    """Align what is known at first; a later cell that is longer pushes its row to the right."""
    lines = iter([_shown(row.get(name)) for name in columns] for row in rows)
    first = list(islice(lines, _LOOKED_AT))
    used = [any(line[at] for line in first) or not first for at in range(len(columns))]
    widths = [max([len(name), *(len(line[at]) for line in first)])
              for at, name in enumerate(columns)]  # fmt: skip

    def written(cells: Sequence[str]) -> str:
        # A column that is empty at first is shown at the end of the rows that have it.
        kept = [cell.ljust(width) for cell, width, is_used in zip(cells, widths, used, strict=True)
                if is_used]  # fmt: skip
        late = [f"{name}={cell}" for name, cell, is_used in zip(columns, cells, used, strict=True)
                if cell and not is_used]  # fmt: skip
        return "  ".join([*kept, *late]).rstrip() + "\n"

    if first:
        file.write("  ".join(
            name.ljust(width) for name, width, is_used in zip(columns, widths, used, strict=True)
            if is_used).rstrip() + "\n")  # fmt: skip
    for cells in chain(first, lines):
        file.write(written(cells))


def _shown(value: object) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(_text(value))
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _text(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(str(_text(one)) for one in value)
    return value


_FORMS: Mapping[Format, Callable[[Iterable[Row], Sequence[str], TextIO], None]] = MappingProxyType(
    {Format.CSV: _csv, Format.JSON: _json, Format.TABLE: _table}
)


def counted(rows: Iterable[Row], column: str, count: Callable[[], None]) -> Iterator[Row]:
    """Give rows on, and call `count` for each that has something in `column`."""
    for row in rows:
        if row.get(column):
            count()
        yield row


class Count:
    """How many there were."""

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        """One more."""
        self.value += 1
