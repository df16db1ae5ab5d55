"""``preread models check``: what a lower precision does to a model, on a site's own images."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DeployError
from .files import IN_PART_STATUS, ImageFiles, advancing, image_files, progress_of
from .options import Config
from .output import Format
from .reading_options import Batch, BundleName, Device, named_bundle
from .rows import print_rows

if TYPE_CHECKING:
    from inference.bundle import Bundle
    from inference.evaluation.images import ImageResult


class Lower(StrEnum):
    """Precisions that a bundle can be validated with."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def check(
    bundle: BundleName,
    files: ImageFiles,
    config: Config = None,
    precision: Annotated[
        Lower, typer.Option(help="What is compared with float32.")
    ] = Lower.BFLOAT16,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
    device: Device = "auto",
    batch: Batch = 16,
) -> None:
    """Compare a precision with float32, by the probabilities of image files; needs a GPU.

    Exit status 1 if a threshold is crossed or an image was not read.
    """
    paths = image_files(files)
    from inference.device import choose_device, configure_torch

    configure_torch()
    place = choose_device(device)
    if place == "cpu":
        raise DeployError(
            "a CPU computes in float32 whatever the bundle says: run this on the machine with the "
            "GPU"
        )
    from inference.evaluation.images import image_reader, read_images
    from inference.evaluation.precision import precision_drift

    def read(asked: Bundle) -> Iterable[ImageResult]:
        reader = image_reader(asked, place, batch=batch)
        with progress_of(len(paths), f"reading in {asked.engine.precision}") as bar:
            yield from advancing(read_images(reader, paths, batch=batch), bar)

    found = precision_drift(named_bundle(bundle, config), precision.value, read)
    rows = [
        {
            "label": one.label,
            "images": found.images,
            "largest_drift": f"{one.largest:.2g}",
            "mean_drift": f"{one.mean:.2g}",
            "thresholds_crossed": one.crossed,
        }
        for one in found.labels
    ]
    print_rows(rows, list(rows[0]), form)
    _name(found.unread)
    if found.unread or any(one.crossed for one in found.labels):
        raise typer.Exit(IN_PART_STATUS)


def _name(unread: Iterable[Path]) -> None:
    for path in unread:
        typer.echo(f"preread: {path}: was not read both ways", err=True)
