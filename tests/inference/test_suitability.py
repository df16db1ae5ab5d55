"""The gate: what is refused, with which code, and what is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from inference import codes
from inference.criteria import Criteria
from inference.errors import NotAnalysableError
from inference.reading import NotAnalysed, SourceImage
from inference.suitability import check_image, check_stack
from inference.volume import Slice, Stack

CHEST = Criteria(
    modalities=("CR", "DX"), body_parts=("CHEST",), refused_views=("LL", "RL", "LATERAL")
)
HEAD = Criteria(min_slices=4, min_coverage_mm=15, max_gap=1.6, axial=True)


def header(**elements: Any) -> Dataset:
    dataset = Dataset()
    dataset.Rows = dataset.Columns = 512
    dataset.PixelData = b"\0\0"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def code_of(meaning: str) -> Dataset:
    item = Dataset()
    item.CodeMeaning = meaning
    return item


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({"Modality": "US"}, NotAnalysed.WRONG_MODALITY),
        ({"BodyPartExamined": "HAND"}, NotAnalysed.WRONG_BODY_PART),
        ({"ViewPosition": "LL"}, NotAnalysed.WRONG_VIEW),
        ({"ViewCodeSequence": [code_of("left lateral")]}, NotAnalysed.WRONG_VIEW),
        ({"Rows": 40}, NotAnalysed.NOT_AN_IMAGE),
        ({"Rows": None}, NotAnalysed.NOT_AN_IMAGE),
    ],
)
def test_an_unsuitable_image_is_refused_with_its_code(
    elements: dict[str, Any], code: NotAnalysed
) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        check_image(header(**elements), CHEST)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "PA"},
        {"Modality": "DX", "BodyPartExamined": "Chest PA", "ViewPosition": ""},
        {"ViewCodeSequence": [code_of("postero-anterior")]},
        {"ViewCodeSequence": [code_of("bilateral")]},
    ],
)
def test_a_suitable_image_or_one_that_says_nothing_passes(elements: dict[str, Any]) -> None:
    check_image(header(**elements), CHEST)


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": "SECRETNAME"},
        {"BodyPartExamined": "SECRETNAME"},
        {"ViewPosition": "LL", "ViewCodeSequence": [code_of("SECRETNAME lateral")]},
        {"ViewCodeSequence": [code_of("SECRETNAME lateral")]},
    ],
)
def test_no_value_of_the_header_is_in_the_reason(elements: dict[str, Any]) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        check_image(header(**elements), CHEST)
    assert "secretname" not in str(refusal.value).lower()


def test_an_image_of_too_many_pixels_is_refused_by_its_header() -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        check_image(header(Rows=65535, Columns=65535), CHEST)
    assert refusal.value.code == NotAnalysed.UNSUPPORTED_PIXELS


def test_an_image_that_lost_its_pixels_is_undecodable() -> None:
    cut = header()
    del cut.PixelData
    with pytest.raises(NotAnalysableError) as refusal:
        check_image(cut, CHEST)
    assert refusal.value.code == NotAnalysed.UNDECODABLE


def stack(positions: list[float], normal: tuple[float, float, float] = (0, 0, 1)) -> Stack:
    source = SourceImage(1, "1.2", "1.2", "1.2", Path("none"))
    one = Slice(source, 0, 512, 512, 1, None, None, None, 5.0, None, False)
    return Stack((one,) * len(positions), np.array(positions), {}, np.array(normal, dtype=float))


@pytest.mark.parametrize(
    ("series", "code"),
    [
        (stack([]), NotAnalysed.TOO_FEW_SLICES),
        (stack([0, 5, 10]), NotAnalysed.TOO_FEW_SLICES),
        (stack([0, 1, 2, 3]), NotAnalysed.TOO_FEW_SLICES),
        (stack([0, 5, 10, 20, 25, 30]), NotAnalysed.MISSING_SLICES),
        (stack([0, 5, 10, 15], (0, 1, 0)), NotAnalysed.WRONG_VIEW),
    ],
)
def test_an_unsuitable_series_is_refused_with_its_code(series: Stack, code: NotAnalysed) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        check_stack(series, HEAD)
    assert refusal.value.code == code


def test_a_tilted_series_of_enough_slices_passes() -> None:
    check_stack(stack([0, 5, 10, 15], (0, 0.34, 0.94)), HEAD)


def refusal_of(dataset: Dataset, criteria: Criteria) -> NotAnalysed | None:
    try:
        check_image(dataset, criteria)
    except NotAnalysableError as error:
        assert "secret" not in str(error).lower()
        return NotAnalysed(error.code)
    return None


@pytest.mark.parametrize(
    ("sides", "code"),
    [
        (["A", "F"], NotAnalysed.WRONG_VIEW),
        (["P", "F"], NotAnalysed.WRONG_VIEW),
        (["PL", "F"], NotAnalysed.WRONG_VIEW),
        (["L", "F"], None),
        (["LA", "FP"], None),
        ("", None),
    ],
)
def test_a_lateral_view_is_told_by_the_sides_of_the_image(
    sides: Any, code: NotAnalysed | None
) -> None:
    lateral = header(PatientOrientation=sides)
    assert refusal_of(lateral, CHEST) == code
    assert refusal_of(lateral, Criteria()) is None


@pytest.mark.parametrize("keyword", ["QualityControlSubject", "QualityControlImage"])
def test_what_declares_itself_a_phantom_is_no_patient(keyword: str) -> None:
    assert refusal_of(header(**{keyword: "YES"}), Criteria()) == NotAnalysed.NOT_A_PATIENT
    assert refusal_of(header(**{keyword: "NO"}), Criteria()) is None
    assert refusal_of(header(**{keyword: "BOTH"}), Criteria()) is None


def test_a_phantom_by_name_is_told_where_the_site_says_so() -> None:
    named = header(PatientName="Secret^Plastic", PatientID="QA-17")
    assert refusal_of(named, Criteria()) is None
    for words in (("PLASTIC",), ("NOBODY", "plas*"), ("QA",)):
        site = Criteria.from_dict({"phantom_words": words})
        assert refusal_of(named, site) == NotAnalysed.NOT_A_PATIENT
        assert refusal_of(header(PatientName="Plasticsmith^Qadira"), site) == (
            NotAnalysed.NOT_A_PATIENT if words[-1] == "plas*" else None
        )


def usage(*administered: str) -> Dataset:
    groups = Dataset()
    groups.ContrastBolusUsageSequence = [Dataset() for _ in administered]
    for item, value in zip(groups.ContrastBolusUsageSequence, administered, strict=True):
        item.ContrastBolusAgentAdministered = value
    return groups


GIVEN = [
    {"ContrastBolusAgent": "SECRET 370"},
    {"ContrastBolusAgent": "NON IONIC"},
    {"ContrastBolusAgent": "Nonionic 300"},
    {"ContrastBolusAgentSequence": [code_of("Secret")]},
    {"ContrastBolusAgentSequence": [Dataset()]},
    {"ContrastBolusAgent": "NONE", "ContrastBolusAgentSequence": [code_of("Secret")]},
    {"PerFrameFunctionalGroupsSequence": [usage("NO"), usage("NO", "YES")]},
]
NOT_GIVEN = [
    {},
    {"ContrastBolusAgent": ""},
    *({"ContrastBolusAgent": text} for text in ("NONE", "no", "No contrast", "-", "w/o", "N/A")),
    {"ContrastBolusAgent": "non-contrast"},
    {"ContrastBolusAgentSequence": [code_of("No contrast")]},
    {"SeriesDescription": "SECRET POST CONTRAST C+", "ProtocolName": "CTA head with contrast"},
    {
        "ContrastBolusAgentSequence": [code_of("Secret")],
        "SharedFunctionalGroupsSequence": [usage("NO")],
    },
]


@pytest.mark.parametrize("elements", GIVEN, ids=repr)
def test_contrast_that_was_given(elements: dict[str, Any]) -> None:
    assert refusal_of(header(**elements), Criteria(contrast="without")) == NotAnalysed.CONTRAST
    assert refusal_of(header(**elements), Criteria(contrast="with")) is None
    assert refusal_of(header(**elements), Criteria()) is None


@pytest.mark.parametrize("elements", NOT_GIVEN, ids=repr)
def test_contrast_that_was_not_given(elements: dict[str, Any]) -> None:
    assert refusal_of(header(**elements), Criteria(contrast="without")) is None
    assert refusal_of(header(**elements), Criteria(contrast="with")) == NotAnalysed.CONTRAST
    assert refusal_of(header(**elements), Criteria()) is None


def reconstructed(*kernels: str | list[str]) -> list[Dataset]:
    frames = []
    for kernel in kernels:
        reconstruction, groups = Dataset(), Dataset()
        reconstruction.ConvolutionKernel = kernel
        groups.CTReconstructionSequence = [reconstruction]
        frames.append(groups)
    return frames


@pytest.mark.parametrize(
    ("elements", "criteria", "refused"),
    [
        ({"ConvolutionKernel": "H70h"}, {"refused_kernels": ["*70*"]}, True),
        ({"ConvolutionKernel": ["Br40f", "3"]}, {"refused_kernels": ["*70*"]}, False),
        ({"ConvolutionKernel": ["Hr70f", "3"]}, {"refused_kernels": ["*70*"]}, True),
        ({"ConvolutionKernel": ["Hr40f", "3"]}, {"kernels": ["hr[34]*", "STAND*"]}, False),
        ({"ConvolutionKernel": "BONEPLUS"}, {"kernels": ["hr[34]*", "STAND*"]}, True),
        ({"ConvolutionKernel": "STD+"}, {"kernels": ["STD+"], "refused_kernels": ["S*"]}, True),
        ({}, {"kernels": ["STD+"], "refused_kernels": ["*"]}, False),
        ({"ConvolutionKernel": ""}, {"kernels": ["STD+"], "refused_kernels": ["*"]}, False),
        ({"SharedFunctionalGroupsSequence": reconstructed("BONE")}, {"kernels": ["STD"]}, True),
        ({"SharedFunctionalGroupsSequence": reconstructed("STD")}, {"kernels": ["STD"]}, False),
        (
            {"PerFrameFunctionalGroupsSequence": reconstructed("STD", ["x", "BONE"])},
            {"refused_kernels": ["BO?E"]},
            True,
        ),
    ],
)
def test_kernels(elements: Any, criteria: Mapping[str, object], refused: bool) -> None:
    expected = NotAnalysed.KERNEL if refused else None
    assert refusal_of(header(**elements), Criteria.from_dict(criteria)) == expected
    assert refusal_of(header(**elements), Criteria()) is None


def test_the_first_of_several_reasons_is_always_the_same() -> None:
    wrong = header(
        QualityControlImage="YES",
        Modality="US",
        BodyPartExamined="HAND",
        ViewPosition="LL",
        ContrastBolusAgent="SECRET",
        ConvolutionKernel="SECRET",
    )
    strict = replace(CHEST, contrast="without", kernels=("STD",))
    for keyword, code in {
        "QualityControlImage": NotAnalysed.NOT_A_PATIENT,
        "Modality": NotAnalysed.WRONG_MODALITY,
        "BodyPartExamined": NotAnalysed.WRONG_BODY_PART,
        "ViewPosition": NotAnalysed.WRONG_VIEW,
        "ContrastBolusAgent": NotAnalysed.CONTRAST,
        "ConvolutionKernel": NotAnalysed.KERNEL,
    }.items():
        assert refusal_of(wrong, strict) == code
        delattr(wrong, keyword)
    assert refusal_of(wrong, strict) is None


def stack_refusal(series: Stack, criteria: Criteria) -> NotAnalysed | None:
    try:
        check_stack(series, criteria)
    except NotAnalysableError as error:
        return NotAnalysed(error.code)
    return None


@given(
    count=st.integers(2, 40), repeated=st.integers(0, 40), limit=st.floats(0, 1), seed=st.randoms()
)
def test_duplicates_are_refused_above_the_accepted_share(
    count: int, repeated: int, limit: float, seed: Any
) -> None:
    places = [5.0 * number for number in range(count)]
    positions = sorted(places + [seed.choice(places) for _ in range(repeated)])
    share = repeated / len(positions)
    expected = NotAnalysed.DUPLICATE_SLICES if share > limit else None
    assert stack_refusal(stack(positions), Criteria(max_duplicates=limit)) == expected
    assert stack_refusal(stack(positions), Criteria()) is None


def test_missing_slices_are_named_before_duplicates_and_these_before_spacing() -> None:
    series = stack([0, 5, 10, 20, 25, 25, 30])
    strict = Criteria(max_gap=1.6, max_duplicates=0, max_spacing_deviation=0.05)
    assert stack_refusal(series, strict) == NotAnalysed.MISSING_SLICES
    assert stack_refusal(series, replace(strict, max_gap=0)) == NotAnalysed.DUPLICATE_SLICES
    loose = replace(strict, max_gap=0, max_duplicates=1)
    assert stack_refusal(series, loose) == NotAnalysed.UNEVEN_SPACING
    assert stack_refusal(series, Criteria()) is None


def test_codes_of_reasons_fit_their_value_representation() -> None:
    assert all(codes.fault(code) is None for code in codes.NOT_ANALYSED.values())
    values = [code.value for code in codes.NOT_ANALYSED.values()]
    assert len(set(values)) == len(values) == len(NotAnalysed)


def test_criteria_survive_their_json_form() -> None:
    assert Criteria.from_dict(CHEST.to_dict()) == CHEST
    every = Criteria(
        max_duplicates=0.5,
        max_spacing_deviation=0.1,
        contrast="without",
        kernels=("STD*",),
        refused_kernels=("*70*",),
        phantom_words=("PLASTIC",),
    )
    assert Criteria.from_dict(every.to_dict()) == every
    assert "contrast" not in Criteria().to_dict(), "else an upgrade changes every digest"
    for wrong in ({"contrast": "maybe"}, {"max_duplicates": 1.5}, {"max_spacing_deviation": "nan"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Criteria.from_dict(wrong)
    with pytest.raises(ValueError, match="unknown keys in suitability: view"):
        Criteria.from_dict({"view": "PA"})
    with pytest.raises(ValueError, match="must be a list of words"):
        Criteria.from_dict({"modalities": "CR"})
