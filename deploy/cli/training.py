"""``preread train``: from labelled images, or from phantoms, to a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DeployError


class Reader(StrEnum):
    """The readers that can be trained."""

    PNEUMOTHORAX = "pneumothorax"
    HEMORRHAGE = "hemorrhage"


class SplitHow(StrEnum):
    """How patients are shared out."""

    RANDOM = "random"
    STRATIFIED = "stratified"


class SplitBy(StrEnum):
    """Whom a split keeps together."""

    PATIENT = "patient"
    STUDY = "study"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    reader: Annotated[Reader, typer.Argument(help="What to train.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of DICOM images; without one phantoms are made.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="labels.csv (file,label) or stage_1_train.csv (ID,Label).")
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="Folder of checkpoints, metrics, plots and decoded images; else OUT.run.",
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--fresh",
            help="Go on from the checkpoint there must be, or begin anew; else as there is one.",
            show_default=False,
        ),
    ] = None,
    find_lr: Annotated[
        bool,
        typer.Option("--find-lr", help="Only look for a learning rate: two suggestions, a plot."),
    ] = False,
    learning_rate: Annotated[
        str | None, typer.Option(help="Peak learning rate, or auto: the finder's minimum / 10.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data, of both phases together.")
    ] = None,
    head_epochs: Annotated[
        int | None, typer.Option(min=0, help="Of these, first for the last layer alone.")
    ] = None,
    epoch_share: Annotated[
        float | None, typer.Option(help="Share of the images drawn anew for each epoch.")
    ] = None,
    balanced: Annotated[
        bool | None,
        typer.Option(
            "--balanced/--as-it-is", help="As many with a finding as without, each epoch."
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=0, help="Epochs without a lower validation loss; 0 trains to the end."),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images in a step.")] = None,
    size: Annotated[int | None, typer.Option(help="Rows and columns of the input.")] = None,
    network: Annotated[
        str | None, typer.Option(help="densenet (pneumothorax) or efficientnet-b0.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Weights to start from: random, imagenet, a file or a bundle."),
    ] = None,
    sequence: Annotated[
        bool | None,
        typer.Option("--sequence/--pooling", help="A head over the slices (hemorrhage)."),
    ] = None,
    split: Annotated[
        SplitHow | None, typer.Option(help="How patients are shared out.", show_default=False)
    ] = None,
    split_by: Annotated[
        SplitBy | None, typer.Option(help="Whom a split keeps together.", show_default=False)
    ] = None,
    validation_share: Annotated[
        float | None, typer.Option(help="Share of patients for thresholds and early stopping.")
    ] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Share of patients for the figures in the card.")
    ] = None,
    phantoms: Annotated[int | None, typer.Option(min=8, help="Phantoms to make.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode; changes no result.")
    ] = None,
    cache_gb: Annotated[
        float | None, typer.Option(help="Most GiB of decoded images in the run folder.")
    ] = None,
    checkpoint_seconds: Annotated[
        float | None, typer.Option(min=0, help="Between checkpoints within an epoch.")
    ] = None,
    amp: Annotated[
        bool | None, typer.Option("--amp/--full-precision", help="Compute in bfloat16.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
) -> None:
    """Train a reader and write it as a MONAI Bundle that the node serves."""
    if (data is None) != (labels is None):
        raise DeployError("--data and --labels go together: images without labels teach nothing")
    given: dict[str, Any] = {
        "learning_rate": _rate(learning_rate),
        "epochs": epochs,
        "head_epochs": head_epochs,
        "epoch_share": epoch_share,
        "balanced": balanced,
        "patience": patience,
        "batch": batch,
        "size": size,
        "network": network,
        "start": start,
        "sequence": sequence,
        "split": split.value if split else None,
        "split_by": split_by.value if split_by else None,
        "validation_share": validation_share,
        "test_share": test_share,
        "phantoms": phantoms,
        "seed": seed,
        "workers": workers,
        "cache_gb": cache_gb,
        "checkpoint_seconds": checkpoint_seconds,
        "amp": amp,
    }
    # torch takes seconds to import; only this command needs it.
    from inference.device import choose_device, configure_torch
    from inference.training.train import Job, default_run, find
    from inference.training.train import train as run

    from .training_report import reporting

    configure_torch()
    given["device"] = choose_device(device)
    with reporting() as report:
        if find_lr:
            folder = run_folder or default_run(out)
            report.found_rate(find(Job.of(reader.value, folder, data, labels, **given), report))
            print(f"plot: {folder / 'learning_rate.png'}")
            return
        run(
            reader.value,
            out,
            data=data,
            labels=labels,
            run=run_folder,
            listener=report,
            resume=resume,
            **given,
        )
    print(f"bundle written to {out}; its card with all figures is {out / 'docs' / 'README.md'}")


def _rate(text: str | None) -> float | None:
    """Return a learning rate; 0 lets the finder choose."""
    if text is None:
        return None
    if text == "auto":
        return 0.0
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < 100.0:
        raise DeployError(f"--learning-rate {text!r} is neither a number above 0 nor auto")
    return rate
