"""Options of ``preread train``, each a type of its own, in the order of the command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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


# What is trained, from what, to where.
What = Annotated[Reader, typer.Argument(help="What to train.")]
Out = Annotated[Path, typer.Option(help="Folder of the bundle to write.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder of DICOM images; without one phantoms are made.")
]
Labels = Annotated[
    Path | None, typer.Option(help="labels.csv (file,label) or stage_1_train.csv (ID,Label).")
]
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run", help="Folder of checkpoints, metrics, plots and decoded images; else OUT.run."
    ),
]

# What the model is called, and whose it is.
Name = Annotated[
    str | None,
    typer.Option(
        help="Name of the model; rules route to it. Else pneumothorax-own or hemorrhage-own; that "
        "of the reader that ships takes its place.",
        show_default=False,
    ),
]
Version = Annotated[
    str | None, typer.Option(help="Version of the model; 1.0.0 if left out.", show_default=False)
]
Authors = Annotated[
    list[str] | None,
    typer.Option(help="Who trained it, for its card. May be repeated.", show_default=False),
]
Manufacturer = Annotated[
    str | None,
    typer.Option(
        help="Who answers for it, for the reports; 'not stated' if left out.", show_default=False
    ),
]

# Whether it goes on, and how it learns.
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--fresh",
        help="Go on from the checkpoint there must be, or begin anew; else as there is one.",
        show_default=False,
    ),
]
FindRate = Annotated[
    bool, typer.Option("--find-lr", help="Only look for a learning rate: two suggestions, a plot.")
]
LearningRate = Annotated[
    str | None, typer.Option(help="Peak learning rate, or auto: the finder's minimum / 10 (0.001).")
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Passes over the data, of both phases together (15; 6).")
]
HeadEpochs = Annotated[
    int | None, typer.Option(min=0, help="Of these, first for the last layer alone (3; 2).")
]
EpochShare = Annotated[
    float | None, typer.Option(help="Share of the images drawn anew for each epoch (1; 0.1).")
]
Balanced = Annotated[
    bool | None,
    typer.Option("--balanced/--as-it-is", help="As many with a finding as without, each epoch."),
]
Patience = Annotated[
    int | None,
    typer.Option(min=0, help="Epochs without a lower validation loss; 0 trains to the end (5; 2)."),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images in a step (8; 64).")]

# The network and what it sees.
Size = Annotated[int | None, typer.Option(help="Rows and columns of the input (224).")]
Network = Annotated[str | None, typer.Option(help="densenet (pneumothorax) or efficientnet-b0.")]
Start = Annotated[
    str | None,
    typer.Option(help="Weights to start from: random, imagenet, a file or a bundle (imagenet)."),
]
Sequence = Annotated[
    bool | None,
    typer.Option("--sequence/--pooling", help="A head over the slices (hemorrhage)."),
]

# Who is learnt from, and who is measured on.
Split = Annotated[
    SplitHow | None,
    typer.Option(help="How patients are shared out (random; stratified).", show_default=False),
]
SplitWhom = Annotated[
    SplitBy | None, typer.Option(help="Whom a split keeps together (patient).", show_default=False)
]
ValidationShare = Annotated[
    float | None, typer.Option(help="Share of patients for thresholds and early stopping (0.15).")
]
TestShare = Annotated[
    float | None, typer.Option(help="Share of patients for the figures in the card (0.15).")
]
Phantoms = Annotated[int | None, typer.Option(min=8, help="Phantoms to make (1400; 640).")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random (1).")]

# Where and how fast.
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that decode; changes no result (2).")
]
CacheSize = Annotated[
    float | None, typer.Option(help="Most GiB of decoded images in the run folder (50).")
]
CheckpointSeconds = Annotated[
    float | None, typer.Option(min=0, help="Between checkpoints within an epoch (60).")
]
Amp = Annotated[bool | None, typer.Option("--amp/--full-precision", help="Compute in bfloat16.")]
