"""How a training is shown: a bar that moves on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from inference.number_words import noun
from inference.training.gate import Refused
from inference.training.head_part import HeadPart
from inference.training.progress import EpochReport, Listener
from inference.training.sweep import Sweep

from .output import wide_console

# Of unreadable files so many are named; all are counted in the card.
_NAMED = 5


@contextmanager
def reporting() -> Iterator[TrainingReport]:
    """Show a training while the context lasts."""
    console = wide_console()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stdout.isatty(),
        transient=True,
    )
    with bar:
        yield TrainingReport(console, bar)


class TrainingReport(Listener):
    """Prints what happens.

    Parameters
    ----------
    console : rich.console.Console
    bar : rich.progress.Progress
        Disabled where there is no terminal.
    """

    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._tasks: dict[str, TaskID] = {}
        self._unreadable = 0

    def counted(self, counts: Mapping[str, tuple[int, int]], images: int, missing: int) -> None:
        """Print how often each label occurs."""
        table = Table("label", "positive", "negative", "share")
        for name, (positive, negative) in counts.items():
            share = positive / max(1, positive + negative)
            table.add_row(name, f"{positive:,}", f"{negative:,}", f"{share:.1%}")
        self._console.print(table)
        gone = ""
        if missing:
            gone = f"; {missing:,} of the table {noun(missing, 'is', 'are')} not there"
        self._console.print(f"{images:,} {noun(images, 'image')}{gone}")

    def reading_headers(self, done: int, total: int) -> None:
        """Move the bar."""
        self._move("headers", done, total)

    def split(self, rows: Sequence[Mapping[str, object]], whom: str) -> None:
        """Print the parts."""
        table = Table(*(whom if name == "groups" else str(name) for name in rows[0]))
        for row in rows:
            table.add_row(*map(str, row.values()))
        self._console.print(table)
        self._console.print(f"under each label the number of {whom} with it, not of images")

    def head(self, part: HeadPart) -> None:
        """Warn of what it is not taught."""
        for text in part.texts():
            self._warn(text)

    def refused(self, found: Sequence[Refused]) -> None:
        """Warn of what the node will not read."""
        for one in found:
            self._warn(one.text)

    def unlearnt(self, labels: Mapping[str, str]) -> None:
        """Warn of labels that will not be served."""
        for name, lacking in labels.items():
            self._warn(
                f"{name} is neither learnt nor served: the training part has {lacking}; it takes "
                "labelled images with and without it"
            )

    def unreadable(self, path: Path, reason: str) -> None:
        """Name the file, unless many have been named."""
        self._unreadable += 1
        if self._unreadable <= _NAMED:
            count = f"left out, number {self._unreadable}"
            self._console.print(f"{count}: {path}: {reason}", soft_wrap=True)

    def found_rate(self, sweep: Sweep) -> None:
        """Print both suggestions."""
        self._console.print(
            f"learning rate: steepest {sweep.steepest:.2e}  minimum/10 {sweep.minimum_over_ten:.2e}"
        )

    def goes_on(self, at: Mapping[str, Any]) -> None:
        """Say where."""
        done = len(at["history"])
        said = "all epochs are done" if at["done"] else f"step {at['step']} of epoch {done + 1}"
        self._console.print(f"goes on from the checkpoint: {said}")

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar of the epoch."""
        self._move(f"epoch {epoch}", step, steps)

    def epoch(self, report: EpochReport) -> None:
        """Print the figures of the epoch on one line."""
        accuracy = sum(report.accuracy.values()) / len(report.accuracy)
        aucs = "  ".join(f"{n} {auc:.3f}" for n, auc in report.auc.items() if auc is not None)
        self._console.print(
            f"epoch {report.epoch}/{report.epochs}  {report.phase}  loss {report.loss:.4f}  "
            f"validation {report.validation_loss:.4f}  accuracy {accuracy:.3f}  "
            f"AUC {aucs or '-'}  {report.seconds:.0f} s",
            soft_wrap=True,
        )
        # A pipe is read while the training goes on.
        sys.stdout.flush()

    def ended(self, text: str) -> None:
        """Say whether it was early, and which weights are kept."""
        self._console.print(text, soft_wrap=True, highlight=False)

    def _warn(self, said: str) -> None:
        self._console.print(f"warning: {said}", soft_wrap=True, markup=False, highlight=False)

    def _move(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            for task in self._tasks.values():
                self._bar.remove_task(task)
            self._tasks = {name: self._bar.add_task(name, total=total)}
        self._bar.update(self._tasks[name], completed=done)
