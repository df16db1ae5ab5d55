"""Phantom studies, as many as wanted: a few are drawn, each copy has UIDs and noise of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import generate_uid
from raw_pdus import Instance

from inference.training.phantoms.files import draw_head_series, write_chest

# The hemorrhage reader wants so many; 256 is the smallest film that the pneumothorax reader takes.
SLICES = 24
SLICE_SIZE = 128
FILM_SIZE = 256
_N_DRAWN = 4
_SPREAD = 3


class Studies:
    """Makes studies that nobody has seen before.

    Parameters
    ----------
    seed : int
        Of the noise.
    slices : int
        Of each CT study.
    """

    def __init__(self, seed: int = 1, slices: int = SLICES) -> None:
        self._slices = slices
        self._random = np.random.default_rng(seed)
        self._numbers = count(1)
        self._films: list[Dataset] = []
        self._heads: list[list[Dataset]] = []

    def film(self, priority: str = "") -> Instance:
        """A frontal chest film; ``STAT`` makes it one that goes first."""
        if not self._films:
            self._films = list(_films())
        number = next(self._numbers)
        drawn = self._films[number % len(self._films)]
        return self._copies([drawn], f"F{number}", priority)[0]

    def head(self) -> list[Instance]:
        """The slices of a head CT."""
        if not self._heads:
            for seed in range(2):
                drawn = draw_head_series(seed, slices=self._slices, size=SLICE_SIZE)
                self._heads.append([one.dataset for one in drawn])
        number = next(self._numbers)
        return self._copies(self._heads[number % len(self._heads)], f"H{number}")

    def _copies(self, drawn: Sequence[Dataset], name: str, priority: str = "") -> list[Instance]:
        study, series = generate_uid(prefix=None), generate_uid(prefix=None)
        return [self._copy(one, study, series, name, priority) for one in drawn]

    def _copy(self, drawn: Dataset, study: str, series: str, name: str, priority: str) -> Instance:
        made: Any = Dataset()
        made.update(deepcopy(drawn))  # a value that is set is set in the very element
        made.StudyInstanceUID, made.SeriesInstanceUID = study, series
        made.SOPInstanceUID = generate_uid(prefix=None)
        made.PatientID, made.AccessionNumber = name, name
        # Study Priority ID is retired, and still what worklists hand on.
        made.StudyPriorityID = priority
        signed = bool(drawn.PixelRepresentation)
        cells, highest = ("<i2", 2047) if signed else ("<u2", 4095)
        pixels = np.frombuffer(drawn.PixelData, cells).astype(np.int32)
        changed = (pixels + self._random.integers(0, _SPREAD, pixels.size)).clip(None, highest)
        # Where a CT has padding or air nothing is changed: it would no longer be either.
        kept = (pixels == pixels.min()) | (pixels > highest)
        made.PixelData = np.where(kept, pixels, changed).astype(cells).tobytes()
        encoded = BytesIO()
        pydicom.dcmwrite(encoded, made, implicit_vr=False, little_endian=True)
        return Instance(
            str(made.SOPClassUID),
            str(made.SOPInstanceUID),
            str(drawn.file_meta.TransferSyntaxUID),
            encoded.getvalue(),
        )


def _films() -> Iterator[Dataset]:
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(_N_DRAWN):
            path = write_chest(Path(folder) / str(seed), seed, seed % 2 == 1, size=FILM_SIZE)
            yield pydicom.dcmread(path)
