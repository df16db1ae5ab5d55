"""Labelled files to be evaluated, from a table of one of the two public layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError
from ..training.layouts import read_labels


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Files and their truth.

    Attributes
    ----------
    files : sequence of Path
    truth : ndarray of bool, (n, labels)
    """

    files: Sequence[Path]
    truth: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.files)


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
    found: Any = read_labels(table, folder, names)
    return Labelled([one.path for one in found], np.array([one.labels for one in found]) > 0.5)


def chosen_labels(
    known: Sequence[str], wanted: Sequence[str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return which of a bundle's labels to evaluate, and what the table calls them.

    Parameters
    ----------
    known : sequence of str
        Labels of the bundle.
    wanted : sequence of str
        ``NAME``, or ``NAME=WORD`` where the table says WORD; none means all.

    Raises
    ------
    InferenceError
        If the bundle has no such label.
    """
    pairs = [one.partition("=") for one in wanted or known]
    for name, _, _ in pairs:
        if name not in known:
            raise InferenceError(f"the bundle has no label {name}; its labels: {', '.join(known)}")
    return (
        tuple(known.index(name) for name, _, _ in pairs),
        tuple(word or name for name, _, word in pairs),
    )
