"""What is measured of the reference reader for hemorrhage, and which thresholds follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..evaluation import ranking
from ..evaluation.figures import Figure
from ..evaluation.intervals import over, resampled
from ..evaluation.shares import share_figures
from ..preprocess import place_ct
from ..reading import Thresholds
from ..tensors import prepare_ct
from .painted_heads import MASK_SIZE
from .painted_pool import Pool
from .reference_hemorrhage import LABELS, SPEC, RealScores, Scores, left_out
from .thresholds import choose_thresholds

_RESAMPLED = 1000
_CPU = torch.device("cpu")
# How far the lower and the upper threshold lie above all that is said of real slices without blood;
# far, because one patient says little of others.
_MARGIN, _ALARM_MARGIN = 0.03, 0.25
_CUTOFF = 0.5


@dataclass(frozen=True, slots=True)
class Auc:
    """An area under the ROC curve with its 95 % interval, None where it has none."""

    positives: int
    negatives: int
    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Return it as it stands in a card."""
        if self.value is None or self.low is None or self.high is None:
            return "-"
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def auc_with_interval(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> Auc:
    """Return the AUC of one label, its interval by resampling images (n,) a thousand times."""
    counts = int(truth.sum()), int((~truth).sum())
    ranked = ranking.rank(scores, truth)
    draws = resampled(np.arange(len(scores)), np.random.default_rng(13), _RESAMPLED)
    found = over({"auc": lambda weights: ranking.auc(ranked.tallies(weights))}, draws)["auc"]
    low, high = found or (None, None)
    return Auc(*counts, ranking.auc(ranked.tallies()), low, high)


def aucs(scores: Sequence[Scores], rows: Callable[[Scores], NDArray[np.bool_]]) -> dict[str, Auc]:
    """Return the AUC of every label over those slices of some sets that `rows` chooses."""
    chosen = [rows(one) for one in scores]
    said = np.concatenate([one.scores[at] for one, at in zip(scores, chosen, strict=True)])
    true = np.concatenate([one.truth[at] for one, at in zip(scores, chosen, strict=True)])
    return {
        name: auc_with_interval(said[:, column], true[:, column])
        for column, name in enumerate(LABELS)
    }


def drawn_only(scores: Scores) -> NDArray[np.bool_]:
    """Choose slices of drawn heads."""
    return np.asarray(scores.grounds == "drawn")


def never_seen(number: int) -> Callable[[Scores], NDArray[np.bool_]]:
    """Choose slices painted on real levels that judging network `number` never saw."""
    return lambda scores: left_out(scores.grounds, number)


def thresholds(final: Sequence[Scores], real: Sequence[RealScores]) -> dict[str, Thresholds]:
    """Choose where Absent ends and Present begins, for every label.

    By painted slices first (`choose_thresholds`). Then by real heads without blood: what judges say
    of any slice that they never saw is Absent, and Present begins well above it.

    Parameters
    ----------
    final : sequence of Scores
        Of the network that ships, on slices that nobody learnt from.
    real : sequence of RealScores
        Of real series without blood, by the judging networks.
    """
    said = np.concatenate([one.scores for one in final])
    true = np.concatenate([one.truth for one in final])
    found = {}
    for column, name in enumerate(LABELS):
        chosen = choose_thresholds(said[:, column], true[:, column])
        most = max(float(one.single[:, column].max()) for one in real)
        low = round(max(chosen.low, most + _MARGIN), 3)
        found[name] = Thresholds(low, round(max(chosen.high, low, most + _ALARM_MARGIN), 3))
    return found


def mask_dice(network: torch.nn.Module, pool: Pool) -> NDArray[np.float64]:
    """Return the Dice of the map of all blood against what was painted, of each bleeding slice."""
    found = []
    with torch.inference_mode():
        for index in np.flatnonzero(pool.labels.any(axis=1)).tolist():
            hu = np.asarray(pool.hu[index], dtype=np.float32)[None]
            places = place_ct(hu, SPEC, _CPU)
            _, maps = network(prepare_ct(hu, SPEC, _CPU, places))
            square = torch.nn.functional.interpolate(
                maps[:, :1].sigmoid(), size=(SPEC.size, SPEC.size), mode="bilinear"
            )[0, 0].numpy()
            whole = places[0].over_source(square)
            size = (MASK_SIZE, MASK_SIZE)
            there = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(whole)[None], size)
            said = there[0].numpy() >= _CUTOFF
            painted = pool.masks[index].max(axis=0) >= 128
            total = said.sum() + painted.sum()
            found.append(2 * (said & painted).sum() / total if total else 1.0)
    return np.array(found)


def share_above(
    scores: Sequence[Scores], limits: Mapping[str, Thresholds], name: str = "any"
) -> tuple[Figure, Figure]:
    """Return sensitivity and specificity of a label at its upper threshold.

    Parameters
    ----------
    scores : sequence of Scores
        Of the same slices in several forms: those of one slice count as fewer.
    """
    column = LABELS.index(name)
    said = np.concatenate([one.scores[:, column] for one in scores])
    true = np.concatenate([one.truth[:, column] for one in scores])
    slices = np.concatenate([np.arange(len(one.truth)) for one in scores])
    found = share_figures(limits[name].high, said, true, slices)
    return found["sensitivity"], found["specificity"]
