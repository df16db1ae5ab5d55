"""Labelled files as the two public data sets come: SIIM-ACR (small) and RSNA 2019.

A table is read row by row: that of RSNA 2019 has four million rows, six for each image.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError

# As the value of a label may be written.
_VALUES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_UNTOLD = 2
_COLUMNS = {"siim": ("file", "label"), "rsna": ("id", "label")}


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A DICOM file and 0 or 1 for each label that is asked for, in that order."""

    path: Path
    labels: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """DICOM files and 0 or 1 for each label that is asked for.

    Attributes
    ----------
    folder : Path
        What the names are relative to.
    names : ndarray of bytes, (images,)
        Of the files, in UTF-8: a path object for each would take ten times the memory.
    labels : ndarray of uint8, (images, labels)
    missing : int
        Images of the table whose file is not there.
    """

    folder: Path
    names: NDArray[np.bytes_]
    labels: NDArray[np.uint8]
    missing: int = 0

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.names)

    def __iter__(self) -> Iterator[LabelledFile]:
        """Yield each image with its labels."""
        for index, row in enumerate(self.labels):
            yield LabelledFile(self.path(index), tuple(map(float, row)))

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self.folder / str(self.names[index], "utf-8")

    @property
    def digest(self) -> str:
        """SHA-256 of names and labels: what a training that goes on has to find again."""
        told = hashlib.sha256(b"\n".join(self.names.tolist()))
        told.update(self.labels.tobytes())
        return told.hexdigest()


def read_labels(table: Path, folder: Path, names: Sequence[str]) -> LabelledImages:
    """Read a table of labels; its header says which layout it is.

    ``file,label`` (SIIM): a path below `folder` and the name of the finding, or another word.
    ``ID,Label`` (RSNA): rows ``ID_<image>_<subtype>,0|1``, the image in ``ID_<image>.dcm`` in
    `folder` or in a folder directly below.

    Parameters
    ----------
    table : Path
        CSV with a header.
    folder : Path
        Where the files are. Rows whose file is not there are left out, so that a part of a data
        set can be used with its whole table.
    names : sequence of str
        Of the labels: the SIIM finding, or the RSNA subtypes.

    Returns
    -------
    LabelledImages
        In the order of the table.

    Raises
    ------
    InferenceError
        If there is no such folder, or the table cannot be read, is of neither layout, says nothing
        of the labels, contradicts itself, names a file outside `folder` or one file by two names,
        or names no file that is there.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise InferenceError(f"{folder} {what}: name the folder of the labelled files")
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.reader(lines)
            layout, first, second = _layout(table, next(rows, []))
            pairs = ((row[first], row[second]) for row in rows if len(row) > max(first, second))
            read = _siim if layout == "siim" else _rsna
            told, labels = read(pairs, names, table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InferenceError(f"{table} cannot be read as CSV: {error}") from error
    places = _places(folder, told, deeper=layout == "rsna")
    there = np.array([place is not None for place in places], dtype=bool)
    if not there.any():
        raise InferenceError(_nothing_there(table, folder, told, deeper=layout == "rsna"))
    kept = np.array([place.encode() for place in places if place is not None])
    different, times = np.unique(kept, return_counts=True)
    for twice in different[times > 1][:1]:
        raise InferenceError(f"{table}: {twice.decode()} stands there by two names")
    return LabelledImages(folder, kept, labels[there], missing=int((~there).sum()))


def _nothing_there(table: Path, folder: Path, told: Sequence[str], deeper: bool) -> str:
    said = f"{table} names no file that is in {folder}"
    if not told:
        return said
    where = " or in a folder directly below" if deeper else ""
    return f"{said}: {folder / told[0]}, for example, is not there{where}"


def _layout(table: Path, header: Sequence[str]) -> tuple[str, int, int]:
    """Return which layout it is, and which two columns hold it."""
    columns = [name.strip().lower() for name in header]
    for layout, (first, second) in _COLUMNS.items():
        if first in columns and second in columns:
            return layout, columns.index(first), columns.index(second)
    raise InferenceError(
        f"{table} has the columns {', '.join(sorted(columns))}; "
        "known are file,label (SIIM) and ID,Label (RSNA)"
    )


def _siim(
    rows: Iterable[tuple[str, str]], names: Sequence[str], table: Path
) -> tuple[list[str], NDArray[np.uint8]]:
    wanted = [name.lower() for name in names]
    found: dict[str, tuple[int, ...]] = {}
    for written, label in rows:
        file = _below(written, table)
        told = tuple(int(label.strip().lower() == name) for name in wanted)
        if found.setdefault(file, told) != told:
            raise InferenceError(f"{table}: {file} stands there twice, with different labels")
    # One label may be that of no file; of several it is another data set.
    if len(names) > 1 and found and not any(map(any, found.values())):
        raise InferenceError(
            f"{table} has the columns file,label of the SIIM layout, and no file has one of the "
            f"labels {', '.join(names)}; expected are the columns ID,Label (RSNA 2019), with a row "
            "ID_<image>_<label> for each of them"
        )
    return list(found), np.array(list(found.values()), np.uint8).reshape(-1, len(names))


def _rsna(
    rows: Iterable[tuple[str, str]], names: Sequence[str], table: Path
) -> tuple[list[str], NDArray[np.uint8]]:
    """Pivot rows of one label to images of all.

    An image takes as many bytes as there are labels, besides its name. The public table holds some
    images twice with the same labels.
    """
    width, column = len(names), {name: index for index, name in enumerate(names)}
    untold = bytes([_UNTOLD]) * width
    place: dict[str, int] = {}
    told = bytearray()
    for name, written in rows:
        image, _, subtype = name.rpartition("_")
        image = _below(image, table)
        value = _VALUES.get(written.strip())
        if value is None:
            raise InferenceError(f"{table}: {name} has no label 0 or 1")
        begin = place.get(image)
        if begin is None:
            begin = place[image] = len(told)
            told += untold
        if (offset := column.get(subtype)) is None:
            continue
        if told[begin + offset] not in (_UNTOLD, value):
            raise InferenceError(f"{table}: {name} stands there twice, with different labels")
        told[begin + offset] = value
    labels = np.frombuffer(bytes(told), np.uint8).reshape(-1, width)
    if labels.size and (labels == _UNTOLD).all():
        raise InferenceError(
            f"{table} has the columns ID,Label of the RSNA 2019 layout, and no row is of "
            f"{', '.join(names)}; expected are the columns file,label (SIIM), or rows "
            "ID_<image>_<label> of the labels that are asked for"
        )
    images = list(place)
    for row, index in np.argwhere(labels == _UNTOLD)[:1]:
        raise InferenceError(f"{table}: {images[row]} has no row for {names[index]}")
    return [f"{image}.dcm" for image in images], labels


def _below(name: str, table: Path) -> str:
    """Return the one way to write a path below the folder; refuse one that leaves it."""
    if "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise InferenceError(
            f"{table}: {name!r} is no file below the folder of the data: write the path from there"
        )
    return normpath(name) if "/" in name else name


def _places(folder: Path, files: Sequence[str], deeper: bool) -> list[str | None]:
    """Return where below `folder` each file is, or None; folders are listed once, not asked."""
    listed: dict[str, frozenset[str]] = {}

    def holds(parent: str, name: str) -> bool:
        if parent not in listed:
            listed[parent] = _listing(folder / parent)
        return name in listed[parent]

    below = [""]
    if deeper and folder.is_dir():
        below += sorted(f"{entry.name}/" for entry in folder.iterdir() if entry.is_dir())
    places: list[str | None] = []
    for file in files:
        parent, slash, name = file.rpartition("/")
        candidates = (prefix for prefix in below if holds(f"{prefix}{parent}", name))
        prefix = next(candidates, None)
        places.append(None if prefix is None else f"{prefix}{parent}{slash}{name}")
    return places


def _listing(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError:
        return frozenset()


def count_labels(labels: NDArray[np.uint8], names: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """Return how many images have each label and how many have not; `labels`: (images, labels)."""
    positive = labels.sum(axis=0, dtype=np.int64)
    return {
        name: (int(count), len(labels) - int(count))
        for name, count in zip(names, positive, strict=True)
    }
