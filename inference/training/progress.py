"""How a training goes: told to whoever watches, and written down."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .checkpoint import write_durably
from .gate import Refused
from .head_part import HeadPart
from .sweep import Sweep


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one pass over the training samples came to.

    Attributes
    ----------
    epoch : int
        From 1.
    phase : {"head", "all"}
        What was trained.
    loss : float
        Mean weighted cross-entropy of training, before each step.
    validation_loss : float
        Weighted log loss on the validation images, as the contest of RSNA 2019 defines it.
    accuracy, auc : mapping of str to float or None
        On the validation images, by label; an AUC is None where only one outcome occurs.
    """

    epoch: int
    epochs: int
    phase: str
    loss: float
    validation_loss: float
    accuracy: Mapping[str, float]
    auc: Mapping[str, float | None]
    seconds: float


@dataclass(slots=True)
class Watch:
    """Who is told how a training goes, and who keeps its state.

    Attributes
    ----------
    on_epoch : callable
        Called after each epoch.
    on_step : callable
        Called with epoch, step and the number of steps, after each step.
    save : callable
        Called with a state that `fit` can go on from.
    state : mapping or None
        A state to go on from.
    """

    on_epoch: Callable[[EpochReport], None] = lambda report: None
    on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None
    save: Callable[[Mapping[str, Any]], None] = lambda state: None
    state: Mapping[str, Any] | None = None


def ending(reports: Sequence[EpochReport], patience: int) -> str:
    """Return how a training ended, as a sentence without its full stop.

    Parameters
    ----------
    reports : sequence of EpochReport
        Of all epochs that were trained.
    patience : int
        As in the settings; without it (0) all epochs are trained and the last weights are kept.
    """
    done, planned = len(reports), reports[-1].epochs
    if not patience:
        return f"all {planned} epochs were trained, and the weights of the last are kept"
    best = min(reports, key=lambda one: one.validation_loss)
    kept = f"the weights of epoch {best.epoch} are kept, whose validation loss was the lowest"
    if done == planned:
        return f"all {planned} epochs were trained; {kept}"
    return (
        f"training stopped early, after {done} of {planned} epochs: a phase ends when {patience} "
        f"in a row bring no lower validation loss; {kept}"
    )


def write_metrics(folder: Path, reports: Sequence[EpochReport]) -> None:
    """Write all epochs to ``metrics.csv`` and ``metrics.jsonl``, in place of what stood there.

    Whole each time, so that a training that goes on neither repeats nor loses a row.
    """
    lines = "".join(json.dumps(asdict(report)) + "\n" for report in reports)
    write_durably(folder / "metrics.jsonl", lines.encode())
    table = io.StringIO()
    rows = [dict(_flat(report)) for report in reports]
    writer = csv.DictWriter(table, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_durably(folder / "metrics.csv", table.getvalue().encode())


def _flat(report: EpochReport) -> Iterator[tuple[str, Any]]:
    for name, value in asdict(report).items():
        if isinstance(value, dict):
            yield from ((f"{name}_{label}", one) for label, one in value.items())
        else:
            yield name, value


class Listener:
    """Is told how a training goes; here it hears and says nothing."""

    def counted(self, counts: Mapping[str, tuple[int, int]], images: int, missing: int) -> None:
        """Hear how many images have each label and how many have not."""

    def reading_headers(self, done: int, total: int) -> None:
        """Hear how many headers are read."""

    def split(self, rows: Sequence[Mapping[str, object]], whom: str) -> None:
        """Hear how the data were split (`split.describe`), by `whom`: patients or studies."""

    def head(self, part: HeadPart) -> None:
        """Hear what a head over the slices can be taught, where one is asked for."""

    def refused(self, found: Sequence[Refused]) -> None:
        """Hear which of the data the bundle will refuse when it is served; often nothing."""

    def unlearnt(self, labels: Mapping[str, str]) -> None:
        """Hear of labels that are not learnt and not served, and what is lacking; often none."""

    def unreadable(self, path: Path, reason: str) -> None:
        """Hear of a file that cannot be decoded and is left out."""

    def found_rate(self, sweep: Sweep) -> None:
        """Hear what the learning-rate finder showed."""

    def goes_on(self, at: Mapping[str, Any]) -> None:
        """Hear that the training goes on from a checkpoint."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Hear of a step."""

    def epoch(self, report: EpochReport) -> None:
        """Hear of an epoch."""

    def ended(self, text: str) -> None:
        """Hear how the epochs ended, and which weights are kept; see `ending`."""
