"""Labelled files as the two public data sets come: SIIM-ACR (small) and RSNA 2019."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import InferenceError
from ..input_spec import InputSpec
from ..model_values import model_values
from ..pixels import open_image
from ..preprocess import prepare_ct, prepare_radiograph
from .samples import Sample, as_bytes

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A DICOM file and 0 or 1 for each label that is asked for, in that order."""

    path: Path
    labels: tuple[float, ...]


def read_labels(table: Path, folder: Path, names: Sequence[str]) -> list[LabelledFile]:
    """Read a table of labels; its header says which layout it is.

    ``file,label`` (SIIM): a path below `folder` and the name of the finding, or another word.
    ``ID,Label`` (RSNA): rows ``ID_<image>_<subtype>,0|1``, the image in ``ID_<image>.dcm``.

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
    list of LabelledFile
        In the order of the table.

    Raises
    ------
    InferenceError
        If the table cannot be read, is of neither layout, or names no file that is there.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            columns = {name.strip().lower() for name in reader.fieldnames or ()}
            rows = [{str(k).strip().lower(): v for k, v in row.items()} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InferenceError(f"{table} cannot be read as CSV: {error}") from error
    if {"file", "label"} <= columns:
        found = _siim(rows, names)
    elif {"id", "label"} <= columns:
        found = _rsna(rows, names, table)
    else:
        raise InferenceError(
            f"{table} has the columns {', '.join(sorted(columns))}; "
            "known are file,label (SIIM) and ID,Label (RSNA)"
        )
    kept = [LabelledFile(folder / name, labels) for name, labels in found.items()]
    kept = [entry for entry in kept if entry.path.is_file()]
    if not kept:
        raise InferenceError(f"{table} names no file that is in {folder}")
    return kept


def file_samples(files: Sequence[LabelledFile], spec: InputSpec) -> Iterator[Sample]:
    """Yield a sample for each file, through the same preparation as in service.

    Raises
    ------
    InferenceError
        If a file cannot be read; the message names it.
    """
    for entry in files:
        try:
            yield _sample(entry, spec)
        except InferenceError as error:
            raise InferenceError(f"{entry.path}: {error}") from error


def _siim(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    return {
        row["file"]: tuple(float(row["label"].strip().lower() == name.lower()) for name in names)
        for row in rows
    }


def _rsna(
    rows: Sequence[Mapping[str, str]], names: Sequence[str], table: Path
) -> dict[str, tuple[float, ...]]:
    pivot: dict[str, dict[str, float]] = {}
    for row in rows:
        image, _, subtype = row["id"].rpartition("_")
        try:
            pivot.setdefault(image, {})[subtype] = float(row["label"])
        except (TypeError, ValueError) as error:
            raise InferenceError(f"{table}: {row['id']} has no label 0 or 1") from error
    found = {}
    for image, labels in pivot.items():
        missing = [name for name in names if name not in labels]
        if missing:
            raise InferenceError(f"{table}: {image} has no row for {missing[0]}")
        found[f"{image}.dcm"] = tuple(labels[name] for name in names)
    return found


def _sample(entry: LabelledFile, spec: InputSpec) -> Sample:
    dataset = open_image(entry.path)
    values = model_values(dataset, 0, spec).values
    if spec.kind == "ct_slices":
        prepared = prepare_ct(values[None], spec, _CPU)[0]
    else:
        prepared = prepare_radiograph(values, spec, _CPU)[0]
    # Without a Patient ID the study, or at least the file, is held together.
    group = dataset.get("PatientID") or dataset.get("StudyInstanceUID") or str(entry.path)
    return Sample(as_bytes(prepared), entry.labels, str(group))
