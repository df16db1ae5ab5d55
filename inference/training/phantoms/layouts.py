"""Data sets of phantoms in the layouts of two public ones: SIIM-ACR (small) and RSNA 2019.

Whoever has the real ones needs to change nothing but the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .bleeds import BleedType
from .files import SLICE_MM, SLICES, DrawnSlice, draw_head_series, write_chest

# The order in which the public table holds the rows of an image.
SUBTYPES = (*(str(kind) for kind in BleedType), "any")
# Blood that covers less of a slice is not labelled: nobody could see it.
_VISIBLE_MM2 = 25.0
# Of all series so many are stored as some of the public set are: HU modulo 4096 without an offset.
_WRAPPED_EVERY = 5
# Phantoms of different --seed never meet.
_SEEDS = 100_000
_TEST = 50_000


def write_siim(folder: Path, count: int, seed: int, size: int) -> Path:
    """Write chest radiographs, every second with a pneumothorax.

    ``train/Pneumothorax/000001.dcm`` and ``train/No Pneumothorax/000000.dcm``, and ``labels.csv``
    with ``file,label``.

    Parameters
    ----------
    count : int
        Radiographs, of a patient each.
    size : int
        Rows and columns.

    Returns
    -------
    Path
        Of the table.
    """
    rows = ["file,label"]
    for number in range(count):
        present = number % 2 == 1
        label = "Pneumothorax" if present else "No Pneumothorax"
        path = write_chest(folder / "train" / label, _SEEDS * seed + number, present, size=size)
        file = path.replace(path.with_name(f"{number:06d}.dcm"))
        rows.append(f"{file.relative_to(folder).as_posix()},{label}")
    return _table(folder / "labels.csv", rows)


def write_rsna(folder: Path, count: int, seed: int, size: int, slices: int, test: int) -> Path:
    """Write head CT slices, every second series with a bleed, the subtypes in turn.

    ``stage_1_train_images/ID_*.dcm`` and ``stage_1_train.csv`` with ``ID,Label``: six rows for each
    image. Every fifth series is of 12 bits with wrapped values. ``stage_1_test_images`` and
    ``stage_1_sample_submission.csv`` (0.5 everywhere, as in the contest) are for a prediction.

    Parameters
    ----------
    count, test : int
        Series with and without labels, of a patient each.
    size : int
        Rows and columns.
    slices : int
        In a series, from the skull base upwards; the fewer, the thicker.

    Returns
    -------
    Path
        Of the table of labels.
    """
    rows, asked = ["ID,Label"], ["ID,Label"]
    for image, labels in _series(
        folder / "stage_1_train_images", count, _SEEDS * seed, size, slices
    ):
        rows += [f"{image}_{name},{int(name in labels)}" for name in SUBTYPES]
    first = _SEEDS * seed + _TEST
    for image, _ in _series(folder / "stage_1_test_images", test, first, size, slices):
        asked += [f"{image}_{name},0.5" for name in SUBTYPES]
    _table(folder / "stage_1_sample_submission.csv", asked)
    return _table(folder / "stage_1_train.csv", rows)


def _series(
    folder: Path, count: int, first_seed: int, size: int, slices: int
) -> Iterator[tuple[str, frozenset[str]]]:
    """Write series and yield the name and the labels of each image."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = tuple(BleedType)
    thickness = round(SLICES * SLICE_MM / slices, 2)
    for number in range(count):
        bleed = kinds[number // 2 % len(kinds)] if number % 2 else None
        drawn = draw_head_series(
            first_seed + number, bleed, slices=slices, size=size, slice_mm=thickness
        )
        for one in drawn:
            uid = str(one.dataset.SOPInstanceUID)
            name = f"ID_{hashlib.sha256(uid.encode()).hexdigest()[:9]}"
            if number % _WRAPPED_EVERY == _WRAPPED_EVERY - 1:
                _wrap(one)
            one.dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
            found = bleed is not None and one.blood_mm2 >= _VISIBLE_MM2
            yield name, frozenset(("any", str(bleed)) if found else ())


def _wrap(one: DrawnSlice) -> None:
    """Store HU modulo 4096 in 12 unsigned bits, without the Rescale Intercept that would say so."""
    dataset = one.dataset
    dataset.PixelData = (np.maximum(one.hu, -1000) % 4096).astype("<u2").tobytes()
    dataset.RescaleIntercept = 0
    del dataset.PixelPaddingValue


def _table(path: Path, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
