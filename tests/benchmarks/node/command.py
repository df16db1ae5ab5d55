"""The command line of the benchmark."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import archives
import chart
import report
import run
import typer
from figures import Figures
from machine_facts import busy_share, hardware

_PACKAGES = ("dbos", "sqlalchemy", "pynetdicom", "onnxruntime", "torch")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def benchmark(
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    quick: Annotated[bool, typer.Option(help="The smallest form of each part, for a try.")] = False,
    only: Annotated[str, typer.Option(help="Parts, with commas.")] = ",".join(run.PARTS),
    databases: Annotated[
        str, typer.Option(help="sqlite, postgresql or both, with a comma.")
    ] = "sqlite,postgresql",
    rounds: Annotated[int, typer.Option(min=1, help="X-rays of each way to the PACS.")] = 11,
    queued: Annotated[int, typer.Option(min=8, help="CT studies before the STAT X-ray.")] = 200,
    count: Annotated[int, typer.Option(min=10, help="X-rays in a row.")] = 10_000,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="inference.concurrency of the X-rays in a row.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where to make the data; default: TMPDIR.")
    ] = None,
) -> None:
    """Measure a whole node: C-STORE to the proved report, STAT, two workers, memory."""
    options = run.Options(
        parts=_among(only, run.PARTS, "--only"),
        databases=_among(databases, ("sqlite", "postgresql"), "--databases"),
        archives=tuple(
            name for name in (archives.OURS, archives.ORTHANC_NAME) if archives.is_there(name)
        ),
        rounds=rounds,
        queued=queued,
        count=count,
        concurrency=concurrency,
    )
    if quick:
        options = run.smallest(options)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="preread-node-benchmark-", dir=folder))
    facts, busy, began = hardware(place), busy_share(2), time.monotonic()
    load = f"{os.getloadavg()[0]:.1f}"
    taken = Figures()
    try:
        run.measure(options, place, taken, out)
    finally:  # what was measured until somebody asked to stop is told as well
        shutil.rmtree(place, ignore_errors=True)
        minutes, later = (time.monotonic() - began) / 60, busy_share(2)
        facts += [(package, version(package)) for package in _PACKAGES]
        facts.append(("took", f"{minutes:.0f} min"))
        facts.append(("cores in use by others", f"{busy:.0f} % before, {later:.0f} % afterwards"))
        facts.append(("load average", f"{load} before, {os.getloadavg()[0]:.1f} afterwards"))
        _report(taken, facts, out)
    raise typer.Exit(1 if taken.errors else 0)


def _among(text: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name} is none of {', '.join(known)}", param_hint=option)
    return names


def _report(taken: Figures, facts: Sequence[tuple[str, str]], out: Path | None) -> None:
    text = report.markdown(taken, facts)
    typer.echo(text)
    if out is None:
        return
    (out / "node.md").write_text(text)
    try:
        chart.draw(taken, out / "node.png")
    except chart.NoChartError as error:
        typer.echo(str(error), err=True)
