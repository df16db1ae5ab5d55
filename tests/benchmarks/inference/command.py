"""The command line of the benchmark. What computes is imported once the cores are set."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from machine_facts import busy_share, hardware

if TYPE_CHECKING:
    from options import Options

_PACKAGES = ("torch", "monai", "onnxruntime", "pydicom", "numpy", "imagecodecs")
_QUICK = ("ct", "film-jpeg")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Device = Annotated[str, typer.Option(help="cpu, or cuda.")]
Pool = Annotated[int, typer.Option(help="Processes that decode; 0: in the worker.")]
Cores = Annotated[int, typer.Option(help="Cores to use; 0 is all. With one, its time counts.")]


@app.callback(invoke_without_command=True)
def benchmark(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    quick: Annotated[bool, typer.Option(help="One round of two cases, for a try.")] = False,
    rounds: Annotated[int | None, typer.Option(help="How often; 5, or 1 with --quick.")] = None,
    only: Annotated[str, typer.Option(help="Cases, with commas.")] = "",
    parts: Annotated[str, typer.Option(help="files, engines, start.")] = "",
    device: Device = "cpu",
    cores: Cores = 1,
    pool: Pool = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Where to make the data; default: TMPDIR.")
    ] = None,
) -> None:
    """Measure from files to probabilities beside MONAI, the tutorials and the bare network."""
    if context.invoked_subcommand is not None:
        return
    _confine(cores)
    import cases
    import run
    from options import PARTS, Options

    options = Options(
        names=_among(only, _QUICK if quick else tuple(cases.PLANS), tuple(cases.PLANS), "--only"),
        parts=_among(parts, PARTS, PARTS, "--parts"),
        rounds=rounds or (1 if quick else 5),
        device=device,
        cores=len(os.sched_getaffinity(0)),
        processes=pool,
        slices=4 if quick else 24,
        films=2 if quick else 8,
    )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="preread-benchmark-", dir=folder))
    try:
        facts, busy, began = hardware(place), busy_share(2), time.monotonic()
        taken = run.measure(options, place)
        minutes, later = (time.monotonic() - began) / 60, busy_share(2)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    facts += [(package, version(package)) for package in _PACKAGES]
    facts += _device_facts(options)
    facts.append(("rounds", f"{options.rounds}, in {minutes:.0f} min"))
    facts.append(("cores in use by others", f"{busy:.0f} % before, {later:.0f} % afterwards"))
    _tell(taken, options, facts, out)


@app.command(hidden=True)
def files(
    party: str, case: str, folder: Path, device: Device = "cpu", cores: Cores = 1, pool: Pool = 0
) -> None:
    """Take part as one that reads the files of a case."""
    _confine(cores, party)
    import options
    import parties

    given = options.Options((case,), (), 1, device, len(os.sched_getaffinity(0)), pool)
    parties.files(party, case, folder, given)


@app.command(hidden=True)
def network(
    party: str, name: str, folder: Path, device: Device = "cpu", cores: Cores = 1, pool: Pool = 0
) -> None:
    """Take part as one that runs a network."""
    _confine(cores, party)
    import options
    import parties

    given = options.Options((), (), 1, device, len(os.sched_getaffinity(0)), pool)
    parties.networks(party, name, folder, given)


def _confine(cores: int, party: str = "") -> None:
    """Run on some cores alone, with as many threads in every library that a party leaves alone."""
    there = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, there[: cores or len(there)])
    threads = str(len(os.sched_getaffinity(0)))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = threads
    from options import BARE, OURS

    if party in (OURS, BARE):  # as every process of Preread
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(int(threads))


def _among(text: str, default: Sequence[str], known: Sequence[str], option: str) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else tuple(default)
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name} is none of {', '.join(known)}", param_hint=option)
    return names


def _device_facts(options: Options) -> list[tuple[str, str]]:
    import torch

    found = [("device", "CPU")]
    if options.device != "cpu":
        found = [("device", torch.cuda.get_device_name(options.device))]
    return [
        *found,
        ("cores used", f"{options.cores}, one thread of the network for each"),
        ("decode processes", str(options.processes) if options.processes else "none"),
    ]


def _tell(
    taken: object, options: Options, facts: Sequence[tuple[str, str]], out: Path | None
) -> None:
    import chart
    import report
    from run import Figures

    assert isinstance(taken, Figures)
    text = report.markdown(taken, options, facts)
    typer.echo(text, nl=False)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "inference_benchmark.md").write_text(text)
    try:
        chart.draw(taken, options, out / "inference_benchmark.png")
    except chart.NoChartError as error:
        typer.echo(str(error), err=True)
