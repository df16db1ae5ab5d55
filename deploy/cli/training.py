"""``preread train``: from labelled images, or from phantoms, to a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DeployError


class Reader(StrEnum):
    """The readers that can be trained."""

    PNEUMOTHORAX = "pneumothorax"
    HEMORRHAGE = "hemorrhage"


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
    phantoms: Annotated[int | None, typer.Option(min=8, help="Phantoms to make.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Weights to start from: random, imagenet or a file.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
) -> None:
    """Train a reader and write it as a MONAI Bundle that the node serves."""
    if (data is None) != (labels is None):
        raise DeployError("--data and --labels go together: images without labels teach nothing")
    # torch takes seconds to import; only this command needs it.
    from inference.device import choose_device
    from inference.training.train import EpochReport
    from inference.training.train import train as run

    def report(epoch: EpochReport) -> None:
        figures = "  ".join(
            f"{label} {auc:.3f}" for label, auc in epoch.auc.items() if auc is not None
        )
        print(
            f"epoch {epoch.epoch}/{epoch.epochs}  loss {epoch.loss:.4f}  AUC {figures}", flush=True
        )

    run(
        reader.value,
        out,
        data=data,
        labels=labels,
        phantoms=phantoms,
        epochs=epochs,
        seed=seed,
        device=choose_device(device),
        start=start,
        on_epoch=report,
    )
    print(f"bundle written to {out}; its card with all figures is {out / 'docs' / 'README.md'}")
