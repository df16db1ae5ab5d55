"""What the bundle will refuse when it is served is told when it is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from tiny_layouts import siim_layout

from inference.criteria import Criteria
from inference.errors import NotAnalysableError
from inference.reading import NotAnalysed
from inference.suitability import check_image
from inference.training.gate import ACCEPTED, refusals
from inference.training.headers import Headers, read_headers
from inference.training.layouts import LabelledImages, read_labels
from inference.training.phantoms.files import write_chest
from inference.training.processes import Pool
from inference.training.recipes import HEMORRHAGE, PNEUMOTHORAX

STRICT = Criteria(
    modalities=("CR", "DX"),
    body_parts=("CHEST",),
    refused_views=("LL", "LATERAL"),
    min_rows=64,
    contrast="without",
    refused_kernels=("*70*",),
    phantom_words=("CATPHAN",),
)


def headers_of(folder: Path, criteria: Criteria | None) -> tuple[LabelledImages, Headers]:
    images = read_labels(folder / "labels.csv", folder, ["Pneumothorax"])
    with Pool(1) as pool:
        return images, read_headers(images, folder / "h.npz", pool, criteria=criteria)


def view_code(meaning: str) -> Sequence:
    code = Dataset()
    code.CodeMeaning = meaning
    return Sequence([code])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest(tmp_path_factory.mktemp("film"), 1, size=64)


@settings(max_examples=30, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "Modality": st.sampled_from(["CR", "CT", ""]),
            "BodyPartExamined": st.sampled_from(["CHEST", "HAND", ""]),
            "ViewPosition": st.sampled_from(["PA", "LL"]),
            "ViewCodeSequence": st.sampled_from(["postero-anterior", "left lateral"]).map(
                view_code
            ),
            "PatientOrientation": st.sampled_from([["L", "F"], ["A", "F"]]),
            "QualityControlSubject": st.sampled_from(["YES", "NO"]),
            "QualityControlImage": st.just("YES"),
            "PatientName": st.just("CATPHAN^600"),
            "ContrastBolusAgent": st.sampled_from(["IOHEXOL", "NONE"]),
            "ConvolutionKernel": st.sampled_from(["H70h", "H31s"]),
        },
    ),
    st.sampled_from([Criteria(min_rows=1), Criteria(min_rows=65), STRICT]),
)
def test_a_header_is_refused_as_the_node_refuses_the_image(
    film: Path, elements: dict[str, Any], criteria: Criteria
) -> None:
    dataset = dcmread(film)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    try:
        check_image(dataset, criteria)
        expected = ACCEPTED
    except NotAnalysableError as error:
        expected = list(NotAnalysed).index(NotAnalysed(error.code))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        dataset.save_as(folder / "a.dcm")
        (folder / "labels.csv").write_text("file,label\na.dcm,No\n")
        assert headers_of(folder, criteria)[1].refused.tolist() == [expected]


def test_other_criteria_read_again_and_are_no_other_data(tmp_path: Path) -> None:
    siim_layout(tmp_path, 2, size=64)
    free = headers_of(tmp_path, None)[1]
    bound = headers_of(tmp_path, PNEUMOTHORAX.suitability)[1]
    assert (free.refused == ACCEPTED).all() and (bound.refused != ACCEPTED).all()
    assert free.digest == bound.digest


def test_series_are_held_against_the_criteria_of_series() -> None:
    """A whole one, one of three slices, one that is thin, and one with a hole."""
    whole = np.arange(12) * 5.0
    series = [whole, whole[:3], np.arange(12) * 1.0, np.delete(whole, 6)]
    numbers = np.concatenate([np.full(len(one), n) for n, one in enumerate(series)])
    count = len(numbers)
    shuffled = np.random.default_rng(1).permutation(count)
    found = refusals(
        np.full(count, ACCEPTED, np.int8),
        numbers[shuffled],
        np.concatenate(series)[shuffled],
        np.full(count, 5.0),
        HEMORRHAGE.suitability,
        by_series=True,
    )
    assert [(one.code, one.count, one.of) for one in found] == [
        (NotAnalysed.TOO_FEW_SLICES, 2, 4),
        (NotAnalysed.MISSING_SLICES, 1, 4),
    ]
    assert "2 of 4 series" in found[0].text
    assert "fewer than 8 slices, or less than 50 mm" in found[0].text
    assert "set min_slices and min_coverage_mm under [model.suitability]" in found[0].text


def test_the_last_slice_counts_with_its_thickness() -> None:
    """Ten slices every 5 mm cover 50 mm if they are 5 mm thick, and 46 if they are 1 mm thin."""
    positions = np.tile(np.arange(10) * 5.0, 2)

    def refused(*thickness: float) -> list[tuple[NotAnalysed, int]]:
        found = refusals(
            np.full(20, ACCEPTED, np.int8),
            np.repeat([0, 1], 10),
            positions,
            np.repeat(thickness, 10),
            HEMORRHAGE.suitability,
            by_series=True,
        )
        return [(one.code, one.count) for one in found]

    assert refused(5.0, 5.0) == []
    assert refused(5.0, 1.0) == refused(1.0, 5.0) == [(NotAnalysed.TOO_FEW_SLICES, 1)]


def test_radiographs_that_are_large_enough_pass(tmp_path: Path) -> None:
    siim_layout(tmp_path, 2, size=256)
    assert (headers_of(tmp_path, PNEUMOTHORAX.suitability)[1].refused == ACCEPTED).all()
