"""Options of the commands that run a network over files, and the bundle that they name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import settings
from ..errors import DeployError
from .files import Unit

if TYPE_CHECKING:
    from inference.bundle import Bundle
    from inference.evaluation.images import ImageResult

# Unread files that are named; reports and rows tell of all.
_NAMED = 20

BundleName = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE", help="Folder of a bundle, or name of a model (preread models list)."
    ),
]
By = Annotated[
    Unit, typer.Option(help="What is read as one: each image, or each series as the node reads it.")
]
Window = Annotated[
    str,
    typer.Option(help="What greys of CT pictures (PNG, JPEG) span: CENTER/WIDTH or a name."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
Batch = Annotated[int, typer.Option(min=1, help="Images at the network at once.")]


def named_bundle(told: str, config: Path | None) -> Bundle:
    """Open the bundle in a folder, or the model of this name that the node would offer.

    A folder comes first. A model comes with the thresholds and criteria of the settings.

    Raises
    ------
    DeployError
        If it is neither, or a folder that holds no bundle.
    BundleError
        If the bundle is broken.
    """
    from inference.bundle import open_bundle
    from inference.catalogue import open_catalogue

    folder = Path(told)
    if folder.is_dir():
        if not (folder / "configs" / "metadata.json").is_file():
            raise DeployError(f"{told!a} is no bundle: it has no configs/metadata.json")
        return open_bundle(folder)
    found = settings.load(config)
    models = open_catalogue(found.inference, found.model)
    if told not in models:
        known = ", ".join(models) or "none"
        raise DeployError(
            f"{told!a} is neither a folder with a bundle nor a model; there are: {known}"
        )
    return models[told]


def name_unread(unread: Sequence[ImageResult]) -> None:
    """Name some files that were not read on standard error, each with its reason."""
    for one in unread[:_NAMED]:
        print(f"preread: {one.path}: {one.fault}", file=sys.stderr)
    if (more := len(unread) - _NAMED) > 0:
        print(f"preread: and {more} more", file=sys.stderr)
