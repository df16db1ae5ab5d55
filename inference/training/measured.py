"""Thresholds, chosen on validation data, and figures, measured on the test part alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..reading import Thresholds
from .evaluate import Evaluation, choose_thresholds, evaluate
from .intervals import Interval, bootstrap
from .recipes import Recipe
from .scores import Scores, weighted_log_loss
from .sequence_fit import TrainedSequence, sequence_scores


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one label, each with its 95 % interval where there is one."""

    evaluation: Evaluation
    accuracy: float
    intervals: Mapping[str, Interval | None]


@dataclass(frozen=True, slots=True)
class Units:
    """Scores of what figures speak of, images or whole series: arrays of (units, labels)."""

    scores: NDArray[np.float64]
    truth: NDArray[np.bool_]
    groups: NDArray[np.int64]


def image_units(found: Scores) -> Units:
    """Return each image by itself."""
    return Units(found.probabilities, found.truth, found.groups)


def series_units(recipe: Recipe, found: Scores, sequence: TrainedSequence | None) -> Units:
    """Return whole series as the node reads them: by the head over the slices, or pooled."""
    rows = list(found.by_series())
    truth = np.stack([found.truth[one].any(axis=0) for one in rows])
    groups = np.array([found.groups[one[0]] for one in rows])
    if sequence is not None:
        return Units(sequence_scores(sequence, found), truth, groups)
    pooled = [
        recipe.pooling.smooth(found.probabilities[one], found.positions[one]).max(axis=0)
        for one in rows
    ]
    return Units(np.stack(pooled), truth, groups)


def thresholds_of(recipe: Recipe, units: Units) -> dict[str, Thresholds]:
    """Choose the thresholds of each label."""
    return {
        label.name: choose_thresholds(units.scores[:, column], units.truth[:, column])
        for column, label in enumerate(recipe.labels)
    }


def figures_of(
    recipe: Recipe, units: Units, thresholds: Mapping[str, Thresholds], seed: int
) -> dict[str, Measured]:
    """Measure each label at thresholds that were chosen elsewhere."""
    right = ((units.scores >= 0.5) == units.truth).mean(axis=0)
    found = {}
    for column, label in enumerate(recipe.labels):
        scores, truth = units.scores[:, column], units.truth[:, column]
        limits = thresholds[label.name]
        found[label.name] = Measured(
            evaluate(scores, truth, limits),
            float(right[column]),
            bootstrap(scores, truth, units.groups, limits, seed),
        )
    return found


def log_loss_of(recipe: Recipe, found: Scores) -> float:
    """Return the weighted log loss over images."""
    return weighted_log_loss(found.probabilities, found.truth, recipe.label_weights)
