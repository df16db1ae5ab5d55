"""The gate before a model: images that it was not made for are refused, with a coded reason."""

from __future__ import annotations

import re

import numpy as np
from pydicom import Dataset

from .acquisition import (
    contrast_given,
    is_called_phantom,
    is_lateral,
    is_phantom,
    kernels,
    matches,
)
from .criteria import Criteria
from .errors import NotAnalysableError
from .functional_groups import element, items, whole_number
from .number_words import number_of
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
    hold anything. What is checked first is the reason, in the order below.

    Raises
    ------
    NotAnalysableError
        NOT_AN_IMAGE, UNDECODABLE, UNSUPPORTED_PIXELS, NOT_A_PATIENT, WRONG_MODALITY,
        WRONG_BODY_PART, WRONG_VIEW, CONTRAST or KERNEL.
    """
    _check_pixels(dataset)
    check_header(dataset, criteria)


def check_header(dataset: Dataset, criteria: Criteria) -> None:
    """Refuse an image by its header alone, whose pixels nobody has read.

    Raises
    ------
    NotAnalysableError
        As of `check_image`, but for what its pixels say.
    """
    _check_size(dataset, criteria)
    _check_subject(dataset, criteria)
    _check_part(dataset, criteria)
    _check_view(dataset, criteria)
    _check_contrast(dataset, criteria)
    _check_kernel(dataset, criteria)


def check_stack(stack: Stack, criteria: Criteria) -> None:
    """Refuse a series by the geometry of its slices.

    Raises
    ------
    NotAnalysableError
        TOO_FEW_SLICES, WRONG_VIEW, MISSING_SLICES, DUPLICATE_SLICES or UNEVEN_SPACING, whichever
        comes first.
    """
    count = len(stack.slices)
    if count < max(1, criteria.min_slices):
        aside = f", {number_of(len(stack.set_aside), 'image')} set aside" if stack.set_aside else ""
        _refuse(
            NotAnalysed.TOO_FEW_SLICES,
            f"{number_of(count, 'slice')} of one geometry{aside}; a reading needs "
            f"{criteria.min_slices}",
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
            f"slices are missing in {number_of(len(gaps), 'place')}, the first from "
            f"{low:.1f} to {high:.1f} mm",
        )
    if stack.duplicate_share > criteria.max_duplicates:
        _refuse(
            NotAnalysed.DUPLICATE_SLICES,
            f"{stack.duplicate_share:.0%} of {count} slices lie where another one lies; a reading "
            f"accepts {criteria.max_duplicates:.0%}",
        )
    share = criteria.max_spacing_deviation
    if share and (uneven := stack.uneven(share)):
        low, high = uneven[0]
        _refuse(
            NotAnalysed.UNEVEN_SPACING,
            f"{len(uneven)} distances of slices differ from those next to them by more than "
            f"{share:.0%}, the first from {low:.1f} to {high:.1f} mm",
        )


def _check_pixels(dataset: Dataset) -> None:
    if min(_matrix(dataset)) < 1:
        _refuse(NotAnalysed.NOT_AN_IMAGE, "the instance holds no pixels")
    if not any(keyword in dataset for keyword in _PIXELS):
        _refuse(NotAnalysed.UNDECODABLE, "the file ends before its Pixel Data (7FE0,0010)")


def _check_size(dataset: Dataset, criteria: Criteria) -> None:
    rows, columns = _matrix(dataset)
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


def _check_subject(dataset: Dataset, criteria: Criteria) -> None:
    if is_phantom(dataset):
        _refuse(
            NotAnalysed.NOT_A_PATIENT,
            "Quality Control Subject (0010,0200) or Quality Control Image (0028,0300) declares "
            "a phantom",
        )
    if is_called_phantom(dataset, criteria.phantom_words):
        _refuse(
            NotAnalysed.NOT_A_PATIENT,
            "Patient's Name (0010,0010) or Patient ID (0010,0020) has a word by which this site "
            "names its phantoms",
        )


def _check_part(dataset: Dataset, criteria: Criteria) -> None:
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
    if "LATERAL" in criteria.refused_views and is_lateral(dataset):
        _refuse(
            NotAnalysed.WRONG_VIEW,
            "Patient Orientation (0020,0020) has the front or the back at one side of the image",
        )


def _check_contrast(dataset: Dataset, criteria: Criteria) -> None:
    if criteria.contrast == "any":
        return
    given = contrast_given(dataset)
    if criteria.contrast == "without" and given:
        _refuse(
            NotAnalysed.CONTRAST,
            "a contrast agent was given (Contrast/Bolus Agent (0018,0010), its sequence "
            "(0018,0012) or its usage (0018,9341)); the model reads images without",
        )
    if criteria.contrast == "with" and not given:
        _refuse(
            NotAnalysed.CONTRAST,
            "nothing says that a contrast agent was given (Contrast/Bolus Agent (0018,0010), its "
            "sequence (0018,0012), its usage (0018,9341)); the model reads images with one",
        )


def _check_kernel(dataset: Dataset, criteria: Criteria) -> None:
    if not criteria.kernels and not criteria.refused_kernels:
        return
    for found in sorted(kernels(dataset)):
        if matches(found, criteria.refused_kernels):
            _refuse(
                NotAnalysed.KERNEL,
                "Convolution Kernel (0018,1210) is one that the model does not read: "
                f"{_listed(criteria.refused_kernels)}",
            )
        if criteria.kernels and not matches(found, criteria.kernels):
            _refuse(
                NotAnalysed.KERNEL,
                "Convolution Kernel (0018,1210) is none that the model reads: "
                f"{_listed(criteria.kernels)}",
            )


def _matrix(dataset: Dataset) -> tuple[int, int]:
    return whole_number(dataset, "Rows") or 0, whole_number(dataset, "Columns") or 0


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Z0-9]+", text))


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words)


def _refuse(code: NotAnalysed, reason: str) -> None:
    raise NotAnalysableError(code, reason)
