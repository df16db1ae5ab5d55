"""The command line: the whole benchmark, or one measure of an SCP that runs already."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import chart
import latency
import machine
import parties
import report
import typer
from figures import Figures
from load import Load, Sender, Target
from machine_facts import busy_share
from mixed import SHARES, percentile
from peers import TITLES, Field
from phantoms import KINDS, UidSource, build
from postgres import PostgresServer
from run import PARTS, Options, Run

_LEAST_FREE_BYTES = 30 << 30

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Port = Annotated[int, typer.Option(help="Port of the SCP on 127.0.0.1.")]
Called = Annotated[str, typer.Option(help="AE title to call.")]
Kind = Annotated[str, typer.Option(help=", ".join(KINDS))]
Seconds = Annotated[float, typer.Option(help="How long to measure.")]


@app.callback(invoke_without_command=True)
def benchmark(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    quick: Annotated[bool, typer.Option(help="One short round, about two minutes.")] = False,
    rounds: Annotated[int | None, typer.Option(help="How often; 5, or 1 with --quick.")] = None,
    only: Annotated[str, typer.Option(help="Parts, with commas.")] = ",".join(PARTS),
    peers: Annotated[str, typer.Option(help="Peers, with commas.")] = ",".join(TITLES),
    folder: Annotated[
        Path | None, typer.Option(help="Where to make the data; default: TMPDIR.")
    ] = None,
) -> None:
    """Measure receiving side by side with other programs, and write what was found.

    Without a command everything is measured. The commands measure an SCP that runs already.
    """
    # What was started is ended on the way out, whoever asks to stop.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if context.invoked_subcommand is not None:
        return
    options = Options(
        parts=_among(only, PARTS, "--only"),
        peers=_among(peers, tuple(TITLES), "--peers"),
        rounds=rounds or (1 if quick else 5),
        seconds=0.5 if quick else 1.5,
        file_share=0.25 if quick else 1.0,
        idle_seconds=2.0 if quick else 10.0,
        mixed_seconds=5.0 if quick else 20.0,
        n_large_at_once=1 if quick else 10,
    )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="preread-benchmark-", dir=folder))
    try:
        has_errors = _run(options, place, out)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    raise typer.Exit(1 if has_errors else 0)


def _among(text: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name} is none of {', '.join(known)}", param_hint=option)
    return names


def _run(options: Options, place: Path, out: Path | None) -> bool:
    if shutil.disk_usage(place).free < _LEAST_FREE_BYTES:
        raise typer.BadParameter(f"{place} has less than 30 GiB free", param_hint="--folder")
    facts, busy, began = machine.facts(place), busy_share(2), time.monotonic()
    run = Run(options, place)
    try:
        run.measure()
    finally:  # what was measured until somebody asked to stop is told as well
        minutes, later = (time.monotonic() - began) / 60, busy_share(2)
        facts.append(("rounds", f"{options.rounds}, in {minutes:.0f} min"))
        facts.append(("cores in use by others", f"{busy:.0f} % before, {later:.0f} % afterwards"))
        _report(run.figures, facts, out)
    return bool(run.figures.errors)


def _report(taken: Figures, facts: Sequence[tuple[str, str]], out: Path | None) -> None:
    text = report.markdown(taken, facts, TITLES)
    typer.echo(text)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "receive.md").write_text(text)
    (out / "receive.json").write_text(taken.to_json(facts))
    try:
        chart.draw(taken, TITLES, out / "receive.png")
    except chart.NoChartError as error:
        typer.echo(str(error), err=True)


@app.command()
def raw(
    port: Port,
    called: Called = "PREREAD",
    kind: Kind = "CT",
    associations: Annotated[int, typer.Option(help="Associations at once.")] = 1,
    seconds: Seconds = 5.0,
) -> None:
    """Store images with the load generator."""
    _tell(_sender(port, called, kind).for_seconds(associations, seconds))


@app.command()
def one_each(
    port: Port, called: Called = "PREREAD", kind: Kind = "small", seconds: Seconds = 5.0
) -> None:
    """Store images, each over an association of its own, one after the other."""
    _tell(_sender(port, called, kind).one_each(seconds))


@app.command()
def steady(
    port: Port,
    called: Called = "PREREAD",
    kind: Kind = "small",
    associations: Annotated[int, typer.Option(help="Associations at once.")] = 8,
    per_second: Annotated[float, typer.Option(help="Images in all.")] = 700.0,
    seconds: Seconds = 10.0,
) -> None:
    """Store images at a steady rate."""
    _tell(_sender(port, called, kind).steadily(associations, per_second, seconds))


@app.command()
def echo(port: Port, called: Called = "PREREAD", seconds: Seconds = 2.0) -> None:
    """Time C-ECHO and the set-up of associations."""
    target, image = Target(port, called), build("small")
    typer.echo(f"C-ECHO {latency.echo(target, image, seconds):.3f} ms")
    typer.echo(f"set-up {latency.set_up(target, image, seconds):.3f} ms")


@app.command()
def serve(peer: Annotated[str, typer.Argument(help=", ".join(TITLES))]) -> None:
    """Start a peer as the benchmark does and keep it until Ctrl-C, for another command."""
    place = Path(tempfile.mkdtemp(prefix="preread-benchmark-"))
    server = PostgresServer(place) if peer == "preread-pg" else None
    try:
        with Field(place, server).start(peer) as running:
            running.wait()
            target = running.target
            pids = " ".join(map(str, running.pids()))
            typer.echo(f"{target.called_ae} on port {target.port}, process {pids}, {place}")
            with suppress(KeyboardInterrupt):
                signal.pause()
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(place, ignore_errors=True)


@app.command(hidden=True)
def writer(url: str, seconds: float, number: int) -> None:
    """Take part in the mixed load."""
    parties.write_findings(url, seconds, number)


@app.command(hidden=True)
def reader(url: str, seconds: float) -> None:
    """Take part in the mixed load."""
    parties.read_pages(url, seconds)


def _sender(port: int, called: str, kind: str) -> Sender:
    return Sender(Target(port, called), build(kind), UidSource())


def _tell(load: Load) -> None:
    times = " ".join(f"{name} {percentile(load.latencies, n):.2f}" for name, n in SHARES.items())
    typer.echo(f"{load.n} images, {load.per_second:.1f} images/s, ms: {times}")
