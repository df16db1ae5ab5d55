"""``preread headers``: what the headers of files say, a row for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .files import IN_PART_STATUS, ImageFiles, advancing, image_files, progress_of, window_from
from .output import Format
from .rows import Count, counted, print_rows


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("headers")(headers)


def headers(
    files: ImageFiles,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
    tags: Annotated[
        list[str] | None,
        typer.Option(help="Further attributes by keyword or GGGG,EEEE; may be repeated."),
    ] = None,
    pixels: Annotated[
        bool,
        typer.Option(
            "--pixels",
            help="Decode pixels: lowest, highest, mean, standard deviation, share in --window.",
        ),
    ] = False,
    window: Annotated[
        str, typer.Option(help="Window of --pixels: CENTER/WIDTH, or a name such as brain.")
    ] = "brain",
    identifiers: Annotated[
        bool, typer.Option("--identifiers", help="Show what identifies the patient too.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; it appears when whole.")] = None,
) -> None:
    """Print what the headers of files say; exit status 1 if a file could not be read."""
    # pydicom and numpy take a second to import.
    from inference.header_table import TableSpec, header_rows, keywords_of
    from inference.pictures import is_picture

    asked = [word for tag in tags or () for word in _words(tag)]
    spec = TableSpec(keywords_of(asked, identifiers), identifiers, pixels, window_from(window))
    named = set(files)
    paths = [path for path in image_files(files) if path in named or not is_picture(path)]
    broken = Count()
    with progress_of(len(paths), "reading") as bar:
        rows = advancing(header_rows(paths, spec), bar)
        print_rows(counted(rows, "error", broken.add), spec.columns, form, out)
    if broken.value:
        raise typer.Exit(IN_PART_STATUS)


def _words(text: str) -> list[str]:
    """Return the attributes that an option names: several keywords may be joined by commas."""
    if text.replace(",", "").replace(" ", "").isalpha() and "," in text:
        return [word.strip() for word in text.split(",") if word.strip()]
    return [text]
