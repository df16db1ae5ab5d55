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
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
) -> None:
    """Train a reader and write it as a MONAI Bundle that the node serves."""
    from inference.training import TrainSettings
    from inference.training import train as run

    if (data is None) != (labels is None):
        raise DeployError("--data and --labels go together: images without labels teach nothing")
    run(TrainSettings())
    print(f"bundle written to {out}")
