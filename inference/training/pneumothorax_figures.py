"""From the probabilities of every film to thresholds and the figures of the card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..networks.chest_network import ChestNetwork
from ..reading import Thresholds
from .chest_films import Listed
from .chest_learning import ReferenceSettings, Scores
from .chest_measure import Ranking, gain, rank, ranked_below
from .error_sheet import Alarm
from .pneumothorax_card import Counted, Measured

# The network that ships is the one that has not seen this fold.
SHIPPED = 0
# Of films without a finding that it has not seen, so many may be called Present, and so many are
# called Absent; the stricter of both sources of films counts.
_ALARMS, _SETTLED = 0.05, 0.5
# Films on the sheet of errors.
_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Reading:
    """What the network that has not seen one fold says.

    Attributes
    ----------
    fold : int
    network : ChestNetwork
    scores : Scores
        Of every film, those of its own half included.
    painted : float
        AUC on findings painted into films that it has not seen.
    """

    fold: int
    network: ChestNetwork
    scores: Scores
    painted: float


def choose_thresholds(
    backgrounds: NDArray[np.float64], negatives: NDArray[np.float64]
) -> Thresholds:
    """Choose where Absent ends and Present begins, from films without the finding alone.

    At most about 5 % of either kind are Present, and at most half of either are Absent.

    Parameters
    ----------
    backgrounds, negatives : ndarray of float64, (n,)
        Probabilities of films of two sources, none seen in training.
    """
    high = max(float(np.quantile(films, 1 - _ALARMS)) for films in (backgrounds, negatives))
    low = min(float(np.quantile(films, _SETTLED)) for films in (backgrounds, negatives))
    # Strictly above: several films may have the very score.
    above = (math.floor(1000 * high) + 1) / 1000
    return Thresholds(round(min(low, high), 3), min(1.0, above))


def measure(
    readings: Sequence[Reading],
    listed: Sequence[Listed],
    plain: int,
    folds: NDArray[np.int64],
    settings: ReferenceSettings,
    origin: str,
    without_lungs: int,
) -> Measured:
    """Return the figures of the card.

    Parameters
    ----------
    readings : sequence of Reading
        One for each fold, in their order.
    listed : sequence of Listed
        The first `plain` films have no labels.
    folds : ndarray of int64, (n,)
        Of each film.
    settings : ReferenceSettings
    origin : str
        What the network started from, a sentence.
    without_lungs : int
        Films in which no lungs were found.
    """
    learnt = np.choose(folds, [reading.scores.learnt for reading in readings])
    uneven = readings[SHIPPED].scores.uneven
    unseen = np.choose(folds, [reading.scores.probabilities for reading in readings])
    truth = np.asarray([one.label > 0 for one in listed])
    groups = [one.group for one in listed]
    labelled = slice(plain, None)
    known = truth[labelled], groups[labelled], folds[labelled]
    ours, others = unseen[labelled], uneven[labelled]
    source, shipped = np.arange(len(listed)) >= plain, readings[SHIPPED].scores.probabilities
    new = folds == SHIPPED
    limits = choose_thresholds(shipped[new & ~source], shipped[new & source & ~truth])
    return Measured(
        settings=settings,
        thresholds=limits,
        start=origin,
        films=len(listed),
        without_lungs=without_lungs,
        backgrounds=plain,
        labelled=len(listed) - plain,
        rankings={
            "the reader": rank(ours, *known),
            "its network alone": rank(learnt[labelled], *known),
            "difference of both lungs alone": rank(others, *known),
            "the weights that ship: the reader": _half(ours, *known),
            "the same half: its network alone": _half(learnt[labelled], *known),
            "the same half: difference of both lungs alone": _half(others, *known),
        },
        gain=gain(ours, others, *known),
        patients=ranked_below(ours, *known),
        counted=_counted(shipped, new, source, truth, limits),
        painted=float(np.mean([reading.painted for reading in readings])),
        alarms=_alarms(listed, shipped, ~source & ~truth),
    )


def _half(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    groups: Sequence[str],
    folds: NDArray[np.int64],
) -> Ranking:
    """Return the ranking of the films that the network that ships has not seen."""
    new = folds == SHIPPED
    theirs = [group for group, chosen in zip(groups, new, strict=True) if chosen]
    return rank(scores[new], truth[new], theirs, folds[new])


def _counted(
    shipped: NDArray[np.float64],
    new: NDArray[np.bool_],
    source: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    limits: Thresholds,
) -> tuple[Counted, ...]:
    kinds = (
        ("Hannover, full size, not seen in training", ~source & new),
        ("Hannover, full size, seen in training", ~source & ~new),
        ("Hannover, full size, all", ~source),
        ("NIH without the label, 64 pixels, not seen in training", source & ~truth & new),
        ("NIH with the label, 64 pixels, not seen in training", source & truth & new),
    )
    found = []
    for what, chosen in kinds:
        values = shipped[chosen]
        present, absent = int((values >= limits.high).sum()), int((values < limits.low).sum())
        found.append(Counted(what, present, len(values) - present - absent, absent))
    return tuple(found)


def _alarms(
    listed: Sequence[Listed], shipped: NDArray[np.float64], chosen: NDArray[np.bool_]
) -> tuple[Alarm, ...]:
    """Return the films without a finding that look most like one."""
    rows = np.nonzero(chosen)[0]
    order = rows[np.argsort(-shipped[rows], kind="stable")][:_SHOWN]
    return tuple(Alarm(listed[i].path, float(shipped[i])) for i in order)
