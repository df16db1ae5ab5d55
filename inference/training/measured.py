"""Thresholds, chosen on validation data, and figures, measured on the test part alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..evaluation import ranking
from ..evaluation.figures import Figure, resampled_figure
from ..evaluation.intervals import bootstrap
from ..evaluation.shares import share_figures
from ..reading import Thresholds
from .recipes import Recipe
from .scores import Scores, weighted_log_loss
from .sequence_fit import TrainedSequence, sequence_scores
from .thresholds import choose_thresholds


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one label.

    Attributes
    ----------
    figures : mapping of str to Figure
        ``auc``; ``sensitivity`` and ``specificity`` at the upper threshold; ``accuracy`` at one
        half. Each with its 95 % interval where there is one.
    """

    positives: int
    negatives: int
    figures: Mapping[str, Figure]


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
    return {
        label.name: measure(
            units.scores[:, column],
            units.truth[:, column],
            units.groups,
            thresholds[label.name],
            seed,
        )
        for column, label in enumerate(recipe.labels)
    }


def measure(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    groups: NDArray[np.int64],
    thresholds: Thresholds,
    seed: int = 1,
) -> Measured:
    """Measure one label.

    Parameters
    ----------
    scores : ndarray of float64, (n,)
    truth : ndarray of bool, (n,)
    groups : ndarray of int64, (n,)
        Patient of each; whose images are resampled together, and count as fewer.
    """
    ranked = ranking.rank(scores, truth)
    statistics = {"auc": lambda weights: ranking.auc(ranked.tallies(weights))}
    area = resampled_figure(
        ranking.auc(ranked.tallies()),
        bootstrap(statistics, groups, seed=seed)["auc"],
        "one outcome only",
    )
    decided = share_figures(thresholds.high, scores, truth, groups)
    right = share_figures(0.5, scores, truth, groups)["accuracy"]
    return Measured(
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        figures={
            "auc": area,
            "sensitivity": decided["sensitivity"],
            "specificity": decided["specificity"],
            "accuracy": right,
        },
    )


def log_loss_of(recipe: Recipe, found: Scores) -> float:
    """Return the weighted log loss over images."""
    return weighted_log_loss(found.probabilities, found.truth, recipe.label_weights)
