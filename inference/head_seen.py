"""The look of a series: a head, something else, or a phantom of a head. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import NotAnalysableError
from .heads import looks
from .number_words import number_of
from .reading import NotAnalysed
from .stored_plane import Plane, whole

# Slices that must show brain; one alone may be a likeness.
_ENOUGH = 3
# Slices that are looked at, at most, spread over the series.
_MOST = 48


class HeadSeen:
    """Looks at slices as they come until it has seen enough of a head.

    Parameters
    ----------
    slices : int
        How many there will be.
    """

    def __init__(self, slices: int) -> None:
        self._step = max(1, slices // _MOST)
        self._count = 0
        self._skulls = 0
        self._brains = 0
        self._enough = min(_ENOUGH, slices)

    def look(self, hu: Iterable[Plane]) -> None:
        """Look at the next slices, each (rows, columns) in HU."""
        for one in hu:
            due = self._count % self._step == 0
            self._count += 1
            if due and self._brains < self._enough:
                (found,) = looks(whole(one)[None])
                self._skulls += found.skull
                self._brains += found.brain

    def check(self) -> None:
        """Refuse what is no head.

        Raises
        ------
        NotAnalysableError
            NOT_A_PATIENT for skulls with something else than brain in them, WRONG_BODY_PART
            where no skull is seen either.
        """
        if self._brains >= self._enough:
            return
        if self._skulls >= self._enough:
            raise NotAnalysableError(
                NotAnalysed.NOT_A_PATIENT,
                f"{number_of(self._skulls, 'slice shows', 'slices show')} a skull, {self._brains} "
                "of them brain in it: it looks like a phantom",
            )
        raise NotAnalysableError(
            NotAnalysed.WRONG_BODY_PART,
            f"{number_of(self._brains, 'slice shows', 'slices show')} brain inside a skull; a "
            f"reading needs {self._enough}",
        )
