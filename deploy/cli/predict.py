"""``preread predict``: what a model says of files, without a node."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inference.number_words import noun, number_of

from ..errors import DeployError
from .files import (
    IN_PART_STATUS,
    ImageFiles,
    Unit,
    advancing,
    image_files,
    progress_of,
    window_from,
)
from .options import Config
from .output import Format
from .reading_options import Batch, BundleName, By, Device, Window, name_unread, named_bundle
from .rows import Count, counted, print_rows

if TYPE_CHECKING:
    from inference.bundle import Bundle
    from inference.evaluation.images import ImageResult
    from inference.test_time import TestTime
    from inference.windows import Window as PixelWindow


class Tta(StrEnum):
    """How the views of test-time augmentation are combined."""

    NONE = "none"
    MEAN = "mean"
    MAX = "max"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)


def predict(
    bundle: BundleName,
    files: ImageFiles,
    config: Config = None,
    by: By = Unit.IMAGE,
    tta: Annotated[
        Tta,
        typer.Option(help="Test-time augmentation: mean or max over mirrored and moved views."),
    ] = Tta.NONE,
    views: Annotated[int, typer.Option(min=2, max=64, help="Views of --tta.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the views of --tta.")] = 1,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="File to write; it appears when whole.")] = None,
    submission: Annotated[
        Path | None,
        typer.Option(help="Write the RSNA 2019 file instead: ID,Label for each image and label."),
    ] = None,
    window: Window = "brain",
    gate: Annotated[
        bool | None,
        typer.Option(
            "--gate/--no-gate",
            help="Refuse images that the model was not made for; on, but off for --submission.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    batch: Batch = 16,
) -> None:
    """Print the probabilities of a bundle for image files; exit status 1 if any was not read."""
    if submission is not None and (out is not None or by is Unit.SERIES):
        raise DeployError("--submission is a file of its own, by image: leave out --out and --by")
    greys, paths = window_from(window), image_files(files)
    # torch takes seconds to import; only what runs a network needs it.
    from inference.device import configure_torch

    configure_torch()
    opened = named_bundle(bundle, config)
    gated = submission is None if gate is None else gate
    test_time = _test_time(tta, views, seed)
    if by is Unit.SERIES:
        unread = _by_series(opened, paths, form, out, device, gated, batch, test_time)
    else:
        results = _results(opened, paths, device, gated, batch, test_time, greys)
        if submission is None:
            unread = _by_image(opened, results, form, out)
        else:
            unread = _submit(opened, results, submission)
    if unread:
        raise typer.Exit(IN_PART_STATUS)


def _results(
    bundle: Bundle,
    paths: Sequence[Path],
    device: str,
    gate: bool,
    batch: int,
    test_time: TestTime | None,
    window: PixelWindow,
) -> Iterator[ImageResult]:
    from inference.evaluation.images import image_reader, read_images

    reader = image_reader(bundle, device, gate=gate, batch=batch, test_time=test_time)
    with progress_of(len(paths), "reading") as bar:
        yield from advancing(read_images(reader, paths, batch=batch, window=window), bar)


def _by_image(
    bundle: Bundle, results: Iterator[ImageResult], form: Format, out: Path | None
) -> int:
    names = [label.name for label in bundle.labels]
    columns = ["file", "sop_instance_uid", *names, "notes", "error"]
    unread = Count()
    rows = (_image_row(result, names) for result in results)
    print_rows(counted(rows, "error", unread.add), columns, form, out)
    return unread.value


def _image_row(result: ImageResult, names: Sequence[str]) -> dict[str, Any]:
    from inference.disclosure import uid_shown

    scores = result.probabilities
    known = {} if scores is None else dict(zip(names, map(_rounded, scores), strict=True))
    return {
        "file": str(result.path),
        "sop_instance_uid": uid_shown(result.sop_instance_uid) or None,
        **known,
        "notes": list(result.notes),
        "error": result.fault or None,
    }


def _by_series(
    bundle: Bundle,
    paths: Sequence[Path],
    form: Format,
    out: Path | None,
    device: str,
    gate: bool,
    batch: int,
    test_time: TestTime | None,
) -> int:
    from inference.disclosure import uid_shown
    from inference.evaluation.images import ungated
    from inference.evaluation.series import find_series, read_series
    from inference.model import Reader, load_reader

    reader = load_reader(bundle if gate else ungated(bundle), device, batch)
    if test_time is not None:
        if not isinstance(reader, Reader):
            raise DeployError("--tta is for readers of images; this one reads whole volumes")
        reader = reader.augmented(test_time)
    series, strays = find_series(paths)
    names = [label.name for label in bundle.labels]
    unread = Count()

    def rows() -> Iterator[dict[str, Any]]:
        with progress_of(len(series), "reading") as bar:
            for result in advancing(read_series(reader, series), bar):
                yield {
                    "series_instance_uid": uid_shown(result.series.series_instance_uid),
                    "images": len(result.series.images),
                    "used": result.used,
                    **{name: _rounded(p) for name, p in result.probabilities.items()},
                    "notes": list(result.notes),
                    "error": result.fault or None,
                }
        for path, reason in strays:
            yield {"file": str(path), "images": 1, "used": 0, "notes": [], "error": reason}

    columns = ["series_instance_uid", "images", "used", *names, "notes", "file", "error"]
    print_rows(counted(rows(), "error", unread.add), columns, form, out)
    return unread.value


def _submit(bundle: Bundle, results: Iterator[ImageResult], path: Path) -> int:
    from inference.evaluation.submission import UNKNOWN, prior_of, unserved, write_submission

    names = [label.name for label in bundle.labels]
    prior = prior_of(bundle)
    done = write_submission(path, results, names, prior)
    if lacking := unserved(names, prior):
        print(
            f"preread: warning: the model does not read {', '.join(lacking)}; all rows of that say "
            "how frequent it was in training",
            file=sys.stderr,
        )
    name_unread(done.unread)
    if done.unread:
        said = "how frequent each label was in training" if prior else f"{UNKNOWN:g}"
        print(
            f"preread: warning: {number_of(len(done.unread), 'image')} could not be read; "
            f"{noun(len(done.unread), 'its', 'their')} rows say {said}",
            file=sys.stderr,
        )
    print(f"{number_of(done.rows, 'row')} for {number_of(done.images, 'image')} written to {path}")
    return len(done.unread)


def _test_time(tta: Tta, views: int, seed: int) -> TestTime | None:
    from inference.test_time import TestTime

    if tta is Tta.NONE:
        return None
    return TestTime("mean" if tta is Tta.MEAN else "max", views, seed)


def _rounded(probability: float) -> float:
    return round(float(probability), 7)
