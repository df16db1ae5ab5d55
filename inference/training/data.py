"""The parts of a data set: drawn as phantoms, or read from labelled files."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError
from .checkpoint import write_durably
from .gate import Refused, refusals
from .head_part import HeadPart
from .headers import Headers, read_headers
from .layouts import LabelledImages, count_labels, read_labels
from .outcomes import prevalence, unlearnable
from .phantom_samples import draw_many
from .plots import plot_labels
from .prepared import InputCache, PreparedImages, cache_key
from .processes import Pool
from .progress import Listener
from .recipes import Recipe, TrainSettings
from .samples import Part, Samples
from .split import describe, split

# Seeds of held-out phantoms lie so far from those of training that they never meet.
_SEEDS = 1_000_000
_VALIDATION, _TEST = 500_000, 700_000
_GIB = 1 << 30
_Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """What is learnt from, what thresholds are chosen on, what is measured on.

    Attributes
    ----------
    parts : mapping of str to Part
        ``training``, ``validation``, ``test``, and ``sequence`` where there is such a head.
    head : HeadPart
        What the head over the slices can be taught, where one is asked for.
    stopping : Part
        What each epoch is judged by: the validation part, or of a large one a fixed share.
    described : sequence of mapping
        Rows of `split.describe`.
    digest : str
        Of everything that the parts hold.
    refused : tuple of Refused
        What the bundle will refuse when it is served.
    unlearnt : mapping of str to str
        Labels of which the training part has one outcome alone, and which it lacks.
    prevalence : mapping of str to float
        Share of the images to learn from that have each label; empty for phantoms, which have as
        many as were drawn.
    unreadable : callable
        Returns how many images could not be decoded until now.
    close : callable
        Lets go of the files of decoded images.
    """

    parts: Mapping[str, Part]
    stopping: Part
    origin: str
    digest: str
    described: Sequence[Mapping[str, object]] = field(default=())
    missing: int = 0
    refused: tuple[Refused, ...] = ()
    unlearnt: Mapping[str, str] = field(default_factory=dict)
    prevalence: Mapping[str, float] = field(default_factory=dict)
    head: HeadPart = field(default_factory=HeadPart)
    unreadable: Callable[[], int] = lambda: 0
    close: Callable[[], None] = lambda: None

    @property
    def training(self) -> Part:
        """What is learnt from."""
        return self.parts["training"]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images for training, validation and test."""
        training, validation, test = (len(self.parts[p]) for p in ("training", *_HELD_OUT))
        return training, validation, test


_HELD_OUT = ("validation", "test")


def phantom_data(recipe: Recipe, settings: TrainSettings) -> Data:
    """Draw phantoms: some to learn from, others to choose thresholds, others to measure."""
    base = _SEEDS * settings.seed
    spec, workers = recipe.spec, settings.workers

    def held_out(first: int, count: int) -> Part:
        seeds = range(base + first, base + first + count)
        drawn = Samples.of(draw_many(recipe.draw_held_out, seeds, spec, workers))
        return replace(Part.of_samples(drawn), twins=False)

    if settings.sequence:
        raise InferenceError("a head over the slices is trained on labelled files: give --data")
    seeds = range(base, base + settings.phantoms)
    training = Samples.of(draw_many(recipe.draw_training, seeds, spec, workers))
    validation = held_out(_VALIDATION, settings.validation)
    parts = {
        "training": Part.of_samples(training),
        "validation": validation,
        "test": held_out(_TEST, settings.test),
    }
    digest = hashlib.sha256(training.images.numpy().tobytes()).hexdigest()
    names = [label.name for label in recipe.labels]
    unlearnt = unlearnable(parts["training"].labels, names)
    return Data(parts, validation, origin="phantoms", digest=digest, unlearnt=unlearnt)


def file_data(
    recipe: Recipe,
    settings: TrainSettings,
    folder: Path,
    table: Path,
    run: Path,
    pool: Pool,
    told: Listener,
    claim: Callable[[str], None],
) -> Data:
    """Read labels and headers, split by patient, and prepare images as they are asked for.

    Labels are counted in ``labels.csv`` and ``labels.png`` of the folder `run`, and ``split.csv``
    tells the part of each file.

    Parameters
    ----------
    claim : callable
        Called with the digest before the folder says anything of these data; raises if it is that
        of another training, whose split and inputs then stay.

    Raises
    ------
    InferenceError
        If the table or the files cannot be used, or there is nothing to learn from them.
    """
    if settings.sequence and recipe.scope != "series":
        raise InferenceError(f"{recipe.name} reads single images: there is no --sequence")
    sources = [label.source for label in recipe.labels]
    images = read_labels(table, folder, sources)
    counts = count_labels(images.labels, sources)
    told.counted(counts, len(images), images.missing)
    asked = recipe.suitability
    run.mkdir(parents=True, exist_ok=True)
    headers = read_headers(images, run / "headers.npz", pool, told.reading_headers, asked)
    groups = headers.patients if settings.split_by == "patient" else headers.studies
    shares = {"test": settings.test_share, "validation": settings.validation_share}
    if settings.sequence:
        shares["sequence"] = settings.sequence_share
    parts = split(groups, images.labels, shares, settings.seed, settings.split == "stratified")
    names = [label.name for label in recipe.labels]
    whom = "patients" if settings.split_by == "patient" else "studies"
    parts, head = _taught(parts, groups, images.labels, names, whom)
    rows = describe(parts, groups, images.labels, names)
    told.split(rows, whom)
    told.head(head)
    refused = _refused(headers, recipe)
    told.refused(refused)
    learnt_from = images.labels[parts["training"]]
    unlearnt = unlearnable(learnt_from, names)
    digest = hashlib.sha256(f"{images.digest}{headers.digest}".encode()).hexdigest()
    claim(digest)
    _write_counts(run, counts)
    plot_labels(run / "labels.png", counts)
    _write_split(run, images, parts)
    key = cache_key(recipe.spec, digest)
    limit = int(settings.cache_gb * _GIB)
    cache = InputCache.open(run, key, len(images), recipe.spec, limit)
    inputs = PreparedImages(images, recipe.spec, cache, pool, told.unreadable)
    made = {name: _part(inputs, images, headers, groups, chosen) for name, chosen in parts.items()}
    return Data(
        parts=made,
        stopping=_share(made["validation"], settings),
        origin="files",
        digest=digest,
        described=rows,
        missing=images.missing,
        refused=refused,
        unlearnt=unlearnt,
        prevalence=prevalence(learnt_from, names),
        head=head,
        unreadable=lambda: len(inputs.unreadable),
        close=cache.close,
    )


def _taught(
    parts: dict[str, _Rows],
    groups: _Rows,
    labels: NDArray[np.uint8],
    names: Sequence[str],
    whom: str,
) -> tuple[dict[str, _Rows], HeadPart]:
    """Return the parts without that of the head where it would teach none: it is learnt from."""
    if "sequence" not in parts:
        return parts, HeadPart()
    kept, learnt = parts["sequence"], parts["training"]
    unlearnt = unlearnable(labels[learnt], names)
    head = HeadPart.of(labels[kept], groups[kept], names, unlearnt, whom)
    if head.taught:
        return parts, head
    rest = {part: rows for part, rows in parts.items() if part != "sequence"}
    return {**rest, "training": np.sort(np.concatenate([learnt, kept]))}, head


def _refused(headers: Headers, recipe: Recipe) -> tuple[Refused, ...]:
    return refusals(
        headers.refused,
        headers.series,
        headers.positions,
        headers.thickness,
        recipe.suitability,
        by_series=recipe.scope == "series",
    )


def _part(
    inputs: PreparedImages,
    images: LabelledImages,
    headers: Headers,
    groups: _Rows,
    chosen: _Rows,
) -> Part:
    return Part(
        inputs,
        chosen,
        images.labels[chosen],
        groups[chosen],
        headers.series[chosen],
        headers.positions[chosen],
    )


def _share(validation: Part, settings: TrainSettings) -> Part:
    """Return what an epoch is judged by: as small a share as it learns from, always the same."""
    count = max(1, round(settings.epoch_share * len(validation)))
    drawn = np.random.default_rng([settings.seed, 22]).permutation(len(validation))[:count]
    return validation.of(np.sort(drawn))


def _write_counts(run: Path, counts: Mapping[str, tuple[int, int]]) -> None:
    lines = ["label,positive,negative", *(f"{n},{yes},{no}" for n, (yes, no) in counts.items())]
    write_durably(run / "labels.csv", ("\n".join(lines) + "\n").encode())


def _write_split(
    run: Path,
    images: LabelledImages,
    parts: Mapping[str, _Rows],
) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "part"])
    for part, chosen in parts.items():
        writer.writerows([images.names[index].decode(), part] for index in chosen)
    write_durably(run / "split.csv", table.getvalue().encode())
