"""The gate before a model: images that it was not made for are refused, with a coded reason."""

from __future__ import annotations

import re

import numpy as np
from pydicom import Dataset

from .criteria import Criteria
from .errors import NotAnalysableError
from .functional_groups import element, items, whole_number
from .reading import NotAnalysed
from .volume import Stack

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# A radiograph has 40 million pixels at most. A few bytes of a compressed file can hold more.
_MOST_PIXELS = 2**27
# Axial means nearer to axial than to anything else; a gantry tilts by up to 30 degrees.
_AXIAL = float(np.cos(np.radians(45.0)))


def check_image(dataset: Dataset, criteria: Criteria) -> None:
    """Refuse an image by its header.

    The reason names attributes and what the model reads, never a value of the header, which may
    hold anything.

    Raises
    ------
    NotAnalysableError
        NOT_AN_IMAGE, UNDECODABLE, UNSUPPORTED_PIXELS, WRONG_MODALITY, WRONG_BODY_PART or
        WRONG_VIEW.
    """
    rows, columns = whole_number(dataset, "Rows") or 0, whole_number(dataset, "Columns") or 0
    if min(rows, columns) < 1:
        _refuse(NotAnalysed.NOT_AN_IMAGE, "the instance holds no pixels")
    if not any(keyword in dataset for keyword in _PIXELS):
        _refuse(NotAnalysed.UNDECODABLE, "the file ends before its Pixel Data (7FE0,0010)")
    if min(rows, columns) < criteria.min_rows:
        _refuse(
            NotAnalysed.NOT_AN_IMAGE,
            f"{columns} x {rows} pixels is less than the {criteria.min_rows} that a reading needs",
        )
    if rows * columns > _MOST_PIXELS:
        _refuse(
            NotAnalysed.UNSUPPORTED_PIXELS,
            f"{columns} x {rows} pixels is more than the {_MOST_PIXELS} that are read",
        )
    modality = str(element(dataset, "Modality") or "")
    if criteria.modalities and modality and modality not in criteria.modalities:
        _refuse(
            NotAnalysed.WRONG_MODALITY,
            f"Modality (0008,0060) is none that the model reads: {_listed(criteria.modalities)}",
        )
    part = str(element(dataset, "BodyPartExamined") or "").upper()
    if criteria.body_parts and part and not _words(part) & set(criteria.body_parts):
        _refuse(
            NotAnalysed.WRONG_BODY_PART,
            "Body Part Examined (0018,0015) is none that the model reads: "
            f"{_listed(criteria.body_parts)}",
        )
    _check_view(dataset, criteria)


def check_stack(stack: Stack, criteria: Criteria) -> None:
    """Refuse a series by the geometry of its slices.

    Raises
    ------
    NotAnalysableError
        TOO_FEW_SLICES, MISSING_SLICES or WRONG_VIEW.
    """
    count = len(stack.slices)
    if count < max(1, criteria.min_slices):
        aside = f", {len(stack.set_aside)} images set aside" if stack.set_aside else ""
        _refuse(
            NotAnalysed.TOO_FEW_SLICES,
            f"{count} slices of one geometry{aside}; a reading needs {criteria.min_slices}",
        )
    if criteria.axial and stack.normal is not None and abs(stack.normal[2]) < _AXIAL:
        _refuse(NotAnalysed.WRONG_VIEW, "the slices are not axial")
    if stack.coverage_mm < criteria.min_coverage_mm:
        _refuse(
            NotAnalysed.TOO_FEW_SLICES,
            f"the slices cover {stack.coverage_mm:.0f} mm; a reading needs "
            f"{criteria.min_coverage_mm:.0f} mm",
        )
    if criteria.max_gap and (gaps := stack.gaps(criteria.max_gap)):
        low, high = gaps[0]
        _refuse(
            NotAnalysed.MISSING_SLICES,
            f"slices are missing in {len(gaps)} places, the first from {low:.1f} to {high:.1f} mm",
        )


def _check_view(dataset: Dataset, criteria: Criteria) -> None:
    view = str(element(dataset, "ViewPosition") or "").upper()
    if view and view in criteria.refused_views:
        _refuse(NotAnalysed.WRONG_VIEW, f"View Position (0018,5101) is {view}")
    for code in items(dataset, "ViewCodeSequence"):
        words = _words(str(element(code, "CodeMeaning") or "").upper())
        if refused := words & set(criteria.refused_views):
            _refuse(
                NotAnalysed.WRONG_VIEW,
                f"View Code Sequence (0054,0220) says {' '.join(sorted(refused)).lower()}",
            )


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Z0-9]+", text))


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words)


def _refuse(code: NotAnalysed, reason: str) -> None:
    raise NotAnalysableError(code, reason)
