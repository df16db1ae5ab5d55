"""``preread demo``: the whole way of the data in a few minutes."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import pydicom
import typer
from rich.console import Console
from rich.table import Table

from db import create_engine
from db.query import Filter, analyses, findings, in_progress, rows_of
from inference.number_words import number_of

from .. import demo as stage
from .. import settings
from .results import print_table

_ANALYSE_SECONDS = 240.0
_DELIVER_SECONDS = 60.0
_PICTURE_COLUMNS = 120


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Folder to work in and to keep; else a temporary one.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="SVG file to write: what was shown, as a picture.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write what the PACS got to: reports as HTML, captures as PNG."
        ),
    ] = None,
) -> None:
    """Start a node and a PACS, send sample studies, show what comes out, and stop."""
    folder = (keep or Path(tempfile.mkdtemp(prefix="preread-demo-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        console = Console(highlight=False, record=picture is not None, width=_width(picture))
        received = _play(folder, console)
        if results is not None:
            stage.export(received, results)
        if picture is not None:
            picture.write_text(_without_fonts(console.export_svg(title="make demo")))
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _width(picture: Path | None) -> int | None:
    """Return a fixed width for a picture, the terminal's otherwise."""
    return _PICTURE_COLUMNS if picture is not None else None


def _without_fonts(svg: str) -> str:
    """Leave out rich's fonts: they would be fetched from the Internet."""
    return re.sub(r"@font-face \{[^}]*\}", "", svg)


def _play(folder: Path, console: Console) -> list[pydicom.Dataset]:
    """Run the demonstration; return what the PACS received."""
    begun = time.monotonic()
    say = console.print

    def step(text: str) -> None:
        console.print(f"[bold cyan]{time.monotonic() - begun:5.1f} s[/]  {text}")

    with stage.demo_pacs() as pacs:
        port = stage.free_port()
        settings_file = stage.write_settings(folder, port, pacs.port)
        step(f"PACS {stage.PACS_AE_TITLE} listens on 127.0.0.1:{pacs.port}")
        with stage.demo_node(settings_file, port):
            step(f"node {stage.NODE_AE_TITLE} listens on 127.0.0.1:{port}, SQLite in {folder}")
            step("drawing phantoms ...")
            studies = stage.sample_studies(folder / "samples", step)
            for study in studies:
                stage.send(study, port)
                step(f"sent: {study.name} ({number_of(len(study.files), 'image')})")
            _wait_for_results(settings_file, len(studies), console)
            step("every series is complete, routed and read")
            _wait_for_deliveries(settings_file)
            kinds = "reports, pictures, key images, masks"
            step(f"the PACS has stored {number_of(len(pacs.received), 'object')}: {kinds}")
            say("\n[bold]Findings[/] (preread results; SELECT * FROM v_findings)")
            _show_results(settings_file, console)
            say("\n[bold]Studies[/] (SELECT * FROM v_studies)")
            _show_studies(settings_file, console)
            say("\n[bold]Structured Report of a chest[/], as the PACS received it")
            _show_report(pacs, console)
            say("\n[bold]What the PACS holds now[/]")
            _show_pacs(pacs, console)
        step("the node has stopped")
    return pacs.received


def _wait_for_results(settings_file: Path, studies: int, console: Console) -> None:
    engine = create_engine(settings.load(settings_file).db_url)

    def ended() -> bool:
        with engine.connect() as connection:
            known = rows_of(connection, "v_studies", order_by="received_at")
            return len(known) == studies and not in_progress(connection, Filter())

    with console.status("reading ..."):
        stage.wait_until(ended, _ANALYSE_SECONDS, "the end of all analyses")
    engine.dispose()


def _wait_for_deliveries(settings_file: Path) -> None:
    engine = create_engine(settings.load(settings_file).db_url)

    def ended() -> bool:
        with engine.connect() as connection:
            pending = {"state": "pending"}
            return not rows_of(connection, "v_deliveries", order_by="delivery_id", equals=pending)

    stage.wait_until(ended, _DELIVER_SECONDS, "the delivery of all reports")
    engine.dispose()


def _show_results(settings_file: Path, console: Console) -> None:
    engine = create_engine(settings.load(settings_file).db_url)
    with engine.connect() as connection:
        print_table(findings(connection, Filter()), analyses(connection, Filter()), console)
    engine.dispose()


def _show_studies(settings_file: Path, console: Console) -> None:
    engine = create_engine(settings.load(settings_file).db_url)
    with engine.connect() as connection:
        rows = rows_of(connection, "v_studies", order_by="received_at")
    engine.dispose()
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("patient_id", "modalities", "n_instances", "n_positive", "state")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    console.print(table)


def _show_report(pacs: stage.DemoPacs, console: Console) -> None:
    from inference.objects import render

    chest = next(
        one
        for one in pacs.received
        if one.Modality == "SR" and str(one.PatientID).startswith("PHANTOM-CHEST")
    )
    console.print(render(chest), markup=False, soft_wrap=True)


def _show_pacs(pacs: stage.DemoPacs, console: Console) -> None:
    held = Counter(
        (str(item.StudyInstanceUID), item.SOPClassUID.name, str(item.SeriesDescription))
        for item in pacs.received
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "object", "description", "number"):
        table.add_column(column, overflow="fold")
    for (study, kind, description), number in sorted(held.items()):
        table.add_row(f"...{study[-16:]}", kind, description, str(number))
    console.print(table)
