"""``preread evaluate``: how good a model is on labelled files, as one page."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .files import IN_PART_STATUS, Unit, advancing, progress_of, window_from
from .options import Config
from .reading_options import NAMED, Batch, BundleName, By, Device, Window, named_bundle

if TYPE_CHECKING:
    from inference.evaluation.evaluate import Evaluation


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
    from inference.evaluation.images import image_reader, ungated
    from inference.evaluation.labelled import (
        SPLIT_FILE,
        chosen_labels,
        labelled_files,
        part_of,
        run_folder,
    )
    from inference.evaluation.plots import drawing
    from inference.evaluation.report import Circumstances, write_report
    from inference.model import LoadedReader, load_reader

    greys = window_from(window)
    drawing()  # before hours of reading, not after
    configure_torch()
    opened = named_bundle(bundle, config)
    columns, words = chosen_labels([one.name for one in opened.labels], label or [])
    files = labelled_files(labels, data, words)
    folder = run or run_folder(opened.path)
    part = split or (Split.TEST if (folder / SPLIT_FILE).is_file() else Split.ALL)
    if part is not Split.ALL:
        whole, files = len(files), part_of(files, folder, part)
        told = f"the {part} part by {folder / SPLIT_FILE}: {len(files)} of {whole} images"
    else:
        told = "all images, those that the model may have learnt from too"
    print(f"preread: measuring {told}", file=sys.stderr)
    if by is Unit.IMAGE and opened.spec.kind == "ct_slices":
        print(
            "preread: single slices; where thresholds were chosen on series, --by series is theirs",
            file=sys.stderr,
        )
    reader: LoadedReader
    if by is Unit.SERIES:
        reader = load_reader(opened if gate else ungated(opened), device, batch)
        with progress_of(None, "reading series") as bar:
            scored = measuring.score_series(
                reader, files, columns, follow=lambda results: advancing(results, bar)
            )
    else:
        reader = single = image_reader(opened, device, gate=gate, batch=batch)
        with progress_of(len(files), "reading") as bar:
            scored = measuring.score(
                single,
                files,
                columns,
                batch=batch,
                window=greys,
                follow=lambda results: advancing(results, bar),
            )
    for one in scored.unread[:NAMED]:
        print(f"preread: {one.path}: {one.fault}", file=sys.stderr)
    if (more := len(scored.unread) - NAMED) > 0:
        print(f"preread: and {more} more", file=sys.stderr)
    evaluation = measuring.evaluate(scored, resamples=resamples, seed=seed)
    figures = write_report(
        out,
        evaluation,
        reader,
        Circumstances(
            data=labels.name,
            split=part,
            made_at=datetime.now(UTC),
            gate=gate,
            resamples=resamples,
            seed=seed,
            top=top,
            unit="series" if by is Unit.SERIES else "images",
            missing=files.missing,
            window=greys,
        ),
    )
    _print_summary(evaluation, "series" if by is Unit.SERIES else "images")
    print(f"report written to {out}, figures to {figures}")
    if scored.unread:
        raise typer.Exit(IN_PART_STATUS)


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
