"""A bundle over labelled files: what was read, what it comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import InferenceError
from ..model import LoadedReader
from ..reader import Reader
from ..windows import BRAIN, Window
from .figures import Figure, resampled_figure
from .images import DEFAULT_BATCH, ImageResult, read_images
from .intervals import RESAMPLES, bootstrap, patient_numbers
from .label_figures import LabelFigures, label_figures, mean_figure
from .labelled import Labelled
from .losses import log_losses, weighted_log_losses
from .series import SeriesResult, find_series, read_series


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a reader said of labelled files.

    Attributes
    ----------
    results : sequence of ImageResult
        Those that were read.
    truth : ndarray of bool, (n, labels)
        Of the same, for the labels that are evaluated.
    columns : tuple of int
        Which of the bundle's labels these are.
    unread : sequence of ImageResult
    """

    bundle: Bundle
    results: Sequence[ImageResult]
    truth: NDArray[np.bool_]
    columns: tuple[int, ...]
    unread: Sequence[ImageResult]

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return tuple(self.bundle.labels[column].name for column in self.columns)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Probabilities, (n, labels)."""
        rows = [one.probabilities for one in self.results if one.probabilities is not None]
        return np.stack(rows)[:, list(self.columns)] if rows else np.zeros(self.truth.shape)

    @property
    def faults(self) -> Mapping[str, int]:
        """How many files were not read, by why: the code, without what follows it."""
        return Counter(one.fault.partition(":")[0] for one in self.unread)

    @property
    def notes(self) -> Mapping[str, int]:
        """How many images each note was made for."""
        return Counter(note for one in self.results for note in one.notes)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All figures.

    Attributes
    ----------
    labels : tuple of LabelFigures
    overall : mapping of str to Figure
        Of all labels together; empty for one label.
    """

    scored: Scored
    labels: tuple[LabelFigures, ...]
    overall: Mapping[str, Figure]


def score(
    reader: Reader,
    labelled: Labelled,
    columns: tuple[int, ...],
    *,
    batch: int = DEFAULT_BATCH,
    window: Window = BRAIN,
    follow: Callable[[Iterable[ImageResult]], Iterable[ImageResult]] = iter,
) -> Scored:
    """Read all files.

    Parameters
    ----------
    reader : Reader
        Of `images.image_reader`.
    labelled : Labelled
    columns : tuple of int
        Which of the bundle's labels the truth is of.
    window : Window
        What the greys of CT pictures (PNG, JPEG) are taken to spread over.
    follow : callable, optional
        Sees the results go by, such as for a progress bar.

    Raises
    ------
    InferenceError
        If none can be read; the message says why the first was not.
    """
    read: list[ImageResult] = []
    unread: list[ImageResult] = []
    kept: list[int] = []
    for index, one in enumerate(follow(read_images(reader, labelled, batch=batch, window=window))):
        if one.probabilities is None:
            unread.append(one)
        else:
            read.append(one)
            kept.append(index)
    return _scored(reader, read, labelled.truth[kept], columns, unread)


def score_series(
    reader: LoadedReader,
    labelled: Labelled,
    columns: tuple[int, ...],
    *,
    follow: Callable[[Iterable[SeriesResult]], Iterable[SeriesResult]] = iter,
) -> Scored:
    """Read whole series, as the node does; one is positive where one of its files is.

    Parameters
    ----------
    reader : Reader
        Of `model.load_reader`.
    labelled, columns, follow
        As of `score`.

    Raises
    ------
    InferenceError
        If none can be read; the message says why the first was not.
    """
    series, strays = find_series(labelled)
    names = [label.name for label in reader.bundle.labels]
    read: list[ImageResult] = []
    unread = [ImageResult(path, None, f"no_series: {why}") for path, why in strays]
    truth: list[NDArray[np.bool_]] = []
    for one in follow(read_series(reader, series)):
        path = one.key or one.series.images[0].path
        uid = one.series.series_instance_uid
        if one.fault:
            unread.append(ImageResult(path, None, one.fault, uid))
            continue
        scores = np.array([one.probabilities[name] for name in names])
        read.append(ImageResult(path, scores, "", uid, one.patient, one.notes))
        rows = [image.instance_id for image in one.series.images]
        truth.append(np.asarray(labelled.truth[rows].any(axis=0)))
    known = np.stack(truth) if truth else np.zeros((0, len(columns)), dtype=np.bool_)
    return _scored(reader, read, known, columns, unread)


def _scored(
    reader: LoadedReader,
    read: Sequence[ImageResult],
    truth: NDArray[np.bool_],
    columns: tuple[int, ...],
    unread: Sequence[ImageResult],
) -> Scored:
    if not read:
        first = f"{unread[0].path}: {unread[0].fault}" if unread else "there are none"
        raise InferenceError(f"none of {len(unread)} could be read; {first}")
    return Scored(reader.bundle, read, truth, columns, unread)


def evaluate(scored: Scored, *, resamples: int = RESAMPLES, seed: int = 1) -> Evaluation:
    """Compute all figures.

    Parameters
    ----------
    scored : Scored
    resamples, seed : int
        Of the bootstrap.
    """
    scores, truth = scored.scores, scored.truth
    groups = patient_numbers([one.patient for one in scored.results])
    labels = tuple(
        label_figures(
            scored.bundle.labels[column],
            scores[:, place],
            truth[:, place],
            groups,
            resamples=resamples,
            seed=seed,
        )
        for place, column in enumerate(scored.columns)
    )
    overall: dict[str, Figure] = {}
    if len(labels) > 1:
        losses = weighted_log_losses(scores, truth, scored.names)
        overall["weighted_log_loss"] = _mean_of(losses, groups, resamples, seed)
        overall["mean_auc"] = mean_figure([one.figures["auc"] for one in labels], "an AUC")
    return Evaluation(scored, labels, overall)


def _mean_of(
    values: NDArray[np.float64], groups: NDArray[np.intp], resamples: int, seed: int
) -> Figure:
    statistic = partial(_weighted_mean, values)
    interval = bootstrap({"mean": statistic}, groups, resamples=resamples, seed=seed)["mean"]
    return resampled_figure(float(values.mean()), interval, "no images")


def _weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float | None:
    total = float(weights.sum())
    return float((values * weights).sum() / total) if total else None


def top_losses(scored: Scored, place: int, count: int) -> list[tuple[int, float]]:
    """Return the images that cost most for a label, and their losses; the worst first.

    Parameters
    ----------
    place : int
        Which of the evaluated labels.
    count : int
        How many at most.
    """
    losses = log_losses(scored.scores[:, place], scored.truth[:, place])
    worst = np.argsort(-losses, kind="stable")[:count]
    return [(int(index), float(losses[index])) for index in worst]
