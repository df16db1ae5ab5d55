"""Labelled files to be evaluated, from a table of one of the two public layouts."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError
from ..known_labels import label_meant
from ..training.layouts import read_labels

# What training leaves in its run folder: the part of every file.
SPLIT_FILE = "split.csv"


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Files and their truth.

    Attributes
    ----------
    folder : Path
        What names are relative to.
    path : callable
        Gives the file of a row: a path object for each of 674,258 would take 200 MB.
    truth : ndarray of bool, (n, labels)
    missing : int
        Rows of the table whose file is not there.
    """

    folder: Path
    path: Callable[[int], Path]
    truth: NDArray[np.bool_]
    missing: int = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.truth)

    def __iter__(self) -> Iterator[Path]:
        """Yield the files in order."""
        return map(self.path, range(len(self)))

    def where(self, chosen: NDArray[np.intp]) -> Labelled:
        """Return the rows `chosen`, in that order."""
        return Labelled(
            self.folder, lambda row: self.path(int(chosen[row])), self.truth[chosen], self.missing
        )


def labelled_files(table: Path, folder: Path, names: Sequence[str]) -> Labelled:
    """Read a table of labels; see `training.layouts.read_labels`.

    Parameters
    ----------
    table, folder : Path
    names : sequence of str
        What each label is called in the table.

    Raises
    ------
    InferenceError
        If the table cannot be used.
    """
    found = read_labels(table, folder, names)
    return Labelled(folder, found.path, found.labels > 0, found.missing)


def run_folder(bundle: Path) -> Path:
    """Return where the training of a bundle keeps its split, unless it was told otherwise."""
    whole = bundle.resolve()
    return whole.with_name(f"{whole.name}.run")


def part_of(labelled: Labelled, run: Path, part: str) -> Labelled:
    """Return the files of one part of the split that a training made.

    Parameters
    ----------
    labelled : Labelled
    run : Path
        Run folder of the training; it holds ``split.csv`` with the columns ``file,part``.
    part : str
        ``test`` or ``validation``.

    Raises
    ------
    InferenceError
        If there is no such file, or it names none of the files for this part.
    """
    path = run / SPLIT_FILE
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            named = {row["file"] for row in csv.DictReader(lines) if row["part"] == part}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise InferenceError(
            f"{path} cannot be read, so nobody knows the {part} part: name the run folder of the "
            "training with --run, or take --split all"
        ) from error
    names = (_relative(one, labelled.folder) for one in labelled)
    chosen = np.array([row for row, name in enumerate(names) if name in named], dtype=np.intp)
    if not len(chosen):
        raise InferenceError(f"{path} names none of the files in {labelled.folder} as {part}")
    return labelled.where(chosen)


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def chosen_labels(
    known: Sequence[str], wanted: Sequence[str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return which of a bundle's labels to evaluate, and what the table calls them.

    Parameters
    ----------
    known : sequence of str
        Labels of the bundle.
    wanted : sequence of str
        ``NAME``, or ``NAME=WORD`` where the table says WORD; none means all. The case of NAME
        does not count.

    Raises
    ------
    InferenceError
        If the bundle has no such label.
    """
    told = [one.partition("=") for one in wanted or known]
    pairs = [(label_meant(name, known), word) for name, _, word in told]
    for name, _ in pairs:
        if name not in known:
            raise InferenceError(f"the bundle has no label {name}; its labels: {', '.join(known)}")
    return (
        tuple(known.index(name) for name, _ in pairs),
        tuple(word or name for name, word in pairs),
    )
