"""``preread evaluate``: how good a model is on labelled files, as one page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inference.number_words import number_of

from .files import IN_PART_STATUS, Unit, advancing, progress_of, window_from
from .options import Config
from .reading_options import Batch, BundleName, By, Device, Window, name_unread, named_bundle

if TYPE_CHECKING:
    from inference.bundle import Bundle
    from inference.evaluation.evaluate import Evaluation, Scored
    from inference.evaluation.labelled import Labelled
    from inference.model import LoadedReader
    from inference.windows import Window as PixelWindow


class Split(StrEnum):
    """Which part of the data is measured on."""

    TEST = "test"
    VALIDATION = "validation"
    ALL = "all"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    bundle: BundleName,
    data: Annotated[Path, typer.Option(help="Folder of the images.")],
    labels: Annotated[
        Path, typer.Option(help="labels.csv (file,label) or stage_1_train.csv (ID,Label).")
    ],
    out: Annotated[
        Path, typer.Option(help="Page to write; its figures beside it, report.json of report.html.")
    ] = Path("report.html"),
    config: Config = None,
    by: By = Unit.IMAGE,
    split: Annotated[
        Split | None,
        typer.Option(
            help="Part of the data by the split of the training: test if that is known, else all.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Run folder of the training, with its split; BUNDLE.run if left out."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Label to evaluate, all without it; NAME=WORD where the table says WORD. "
            "May be repeated."
        ),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option("--gate/--no-gate", help="Refuse images that the model was not made for."),
    ] = True,
    top: Annotated[int, typer.Option(min=0, help="Worst images shown for each label.")] = 9,
    resamples: Annotated[int, typer.Option(min=50, help="Resamples of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 1,
    window: Window = "brain",
    device: Device = "auto",
    batch: Batch = 16,
) -> None:
    """Measure a bundle on labelled files; exit status 1 if some could not be read."""
    # torch takes seconds to import; only what runs a network needs it.
    from inference.device import configure_torch
    from inference.evaluation import evaluate as measuring
    from inference.evaluation.plots import drawing
    from inference.evaluation.report import Circumstances, write_report

    greys = window_from(window)
    drawing()  # before hours of reading, not after
    configure_torch()
    opened = named_bundle(bundle, config)
    asked = _asked(opened, data, labels, label or [], split, run)
    if by is Unit.IMAGE and opened.spec.kind == "ct_slices":
        print(
            "preread: single slices; where thresholds were chosen on series, --by series is theirs",
            file=sys.stderr,
        )
    if by is Unit.SERIES:
        reader, scored = _series_scored(opened, asked, device, gate, batch)
    else:
        reader, scored = _images_scored(opened, asked, device, gate, batch, greys)
    name_unread(scored.unread)
    evaluation = measuring.evaluate(scored, resamples=resamples, seed=seed)
    figures = write_report(
        out,
        evaluation,
        reader,
        Circumstances(
            data=labels.name,
            split=asked.part,
            made_at=datetime.now(UTC),
            gate=gate,
            resamples=resamples,
            seed=seed,
            top=top,
            unit="series" if by is Unit.SERIES else "images",
            missing=asked.files.missing,
            window=greys,
        ),
    )
    _print_summary(evaluation, "series" if by is Unit.SERIES else "images")
    print(f"report written to {out}, figures to {figures}")
    if scored.unread:
        raise typer.Exit(IN_PART_STATUS)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is measured: files, columns of their labels, part of the data."""

    files: Labelled
    columns: tuple[int, ...]
    part: Split


def _asked(
    bundle: Bundle,
    data: Path,
    labels: Path,
    wanted: Sequence[str],
    split: Split | None,
    run: Path | None,
) -> _Asked:
    """Return what to measure on, and say so on standard error."""
    from inference.evaluation.labelled import (
        SPLIT_FILE,
        chosen_labels,
        labelled_files,
        part_of,
        run_folder,
    )

    columns, words = chosen_labels([one.name for one in bundle.labels], wanted)
    files = labelled_files(labels, data, words)
    folder = run or run_folder(bundle.path)
    part = split or (Split.TEST if (folder / SPLIT_FILE).is_file() else Split.ALL)
    if part is not Split.ALL:
        whole, files = len(files), part_of(files, folder, part)
        of = number_of(whole, "image")
        told = f"the {part} part by {folder / SPLIT_FILE}: {len(files)} of {of}"
    else:
        told = "all images, those that the model may have learnt from too"
    print(f"preread: measuring {told}", file=sys.stderr)
    return _Asked(files, columns, part)


def _series_scored(
    bundle: Bundle, asked: _Asked, device: str, gate: bool, batch: int
) -> tuple[LoadedReader, Scored]:
    from inference.evaluation.evaluate import score_series
    from inference.evaluation.images import ungated
    from inference.model import load_reader

    reader = load_reader(bundle if gate else ungated(bundle), device, batch)
    with progress_of(None, "reading series") as bar:
        follow = partial(advancing, bar=bar)
        return reader, score_series(reader, asked.files, asked.columns, follow=follow)


def _images_scored(
    bundle: Bundle, asked: _Asked, device: str, gate: bool, batch: int, greys: PixelWindow
) -> tuple[LoadedReader, Scored]:
    from inference.evaluation.evaluate import score
    from inference.evaluation.images import image_reader

    reader = image_reader(bundle, device, gate=gate, batch=batch)
    with progress_of(len(asked.files), "reading") as bar:
        follow = partial(advancing, bar=bar)
        scored = score(reader, asked.files, asked.columns, batch=batch, window=greys, follow=follow)
    return reader, scored


def _print_summary(evaluation: Evaluation, unit: str) -> None:
    scored = evaluation.scored
    unread = f", {len(scored.unread)} not read" if scored.unread else ""
    print(f"{len(scored.results)} {unit} of {evaluation.labels[0].patients} patients{unread}")
    for label in evaluation.labels:
        print(f"{label.name}: {label.positives} positive, {label.negatives} negative")
        for name in ("auc", "accuracy", "sensitivity", "specificity"):
            figure = label.figures[name]
            said = f" ({figure.reason})" if figure.value is None else ""
            print(f"  {name:<12} {figure.text()}{said}")
    for name, figure in evaluation.overall.items():
        print(f"{name.replace('_', ' ')}: {figure.text()}")
