"""The command line of the benchmark."""

from __future__ import annotations

import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import report
import run
import typer
from cases import NAMES
from machine_facts import busy_share, hardware

_PACKAGES = ("pydicom", "highdicom", "numpy", "pillow")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def benchmark(
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    quick: Annotated[bool, typer.Option(help="One round with 8 slices, for a try.")] = False,
    rounds: Annotated[int | None, typer.Option(help="How often; 5, or 1 with --quick.")] = None,
    only: Annotated[str, typer.Option(help="Cases, with commas.")] = ",".join(NAMES),
    folder: Annotated[
        Path | None, typer.Option(help="Where to make the data; default: TMPDIR.")
    ] = None,
) -> None:
    """Measure how long result objects take, from the headers of a reading to objects as bytes."""
    names = only.split(",")
    for name in names:
        if name not in NAMES:
            raise typer.BadParameter(f"{name} is none of {', '.join(NAMES)}", param_hint="--only")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="preread-benchmark-", dir=folder))
    try:
        n_rounds = rounds or (1 if quick else 5)
        facts, busy, began = hardware(place), busy_share(2), time.monotonic()
        taken = run.measure(names, n_rounds, 8 if quick else None, place)
        minutes, later = (time.monotonic() - began) / 60, busy_share(2)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    facts += [(package, version(package)) for package in _PACKAGES]
    facts.append(("rounds", f"{n_rounds}, in {minutes:.0f} min"))
    facts.append(("cores in use by others", f"{busy:.0f} % before, {later:.0f} % afterwards"))
    text = report.markdown(taken, facts)
    typer.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "objects.md").write_text(text)
