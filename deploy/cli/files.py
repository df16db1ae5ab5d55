"""Image files that a command is given, alone or in folders, and how far it is with them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from inference.pictures import is_meant_as_image
from inference.windows import Window, parse_window

from ..errors import DeployError

T = TypeVar("T")
# Done in part: some files were not read.
IN_PART_STATUS = 1

ImageFiles = Annotated[
    list[Path], typer.Argument(help="DICOM files or pictures (PNG, JPEG), or folders of them.")
]


class Unit(StrEnum):
    """What is read, and counts, as one."""

    IMAGE = "image"
    SERIES = "series"


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files, those of folders sorted and without what is no image by name and content.

    Raises
    ------
    DeployError
        If a path is not there, or there is no image in any.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inner = sorted(one for one in path.rglob("*") if one.is_file())
            found += [one for one in inner if is_meant_as_image(one)]
        elif path.exists():
            found.append(path)
        else:
            raise DeployError(f"{path} does not exist")
    if not found:
        raise DeployError("there are no image files in what was named")
    return list(dict.fromkeys(found))


def window_from(text: str) -> Window:
    """Return the window that ``--window`` names.

    Raises
    ------
    DeployError
        If it names none.
    """
    try:
        return parse_window(text)
    except ValueError as error:
        raise DeployError(f"--window: {error}") from None


@contextmanager
def progress_of(total: int | None, what: str) -> Iterator[Progress]:
    """Show how far a command is, on a terminal's standard error only."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    bar = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        bar.add_task(what, total=total)
        yield bar


def advancing(items: Iterable[T], bar: Progress) -> Iterator[T]:
    """Give items on and move the bar by one for each."""
    for item in items:
        yield item
        bar.advance(bar.task_ids[0])
