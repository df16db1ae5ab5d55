"""Maps of where a model looked: their place, their size, and what is shown of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as shaped

from inference.bundle import Bundle
from inference.errors import InferenceError
from inference.explaining import Wanted, wanted_of
from inference.explanation import (
    LEAST_EVIDENCE,
    LEAST_OWN,
    Evidence,
    Explanation,
    Method,
    explanation_named,
    unpacked,
)
from inference.placement import Placement
from inference.stored_explanations import explanation_of, record_of, window_of

CAM = Method.CLASS_ACTIVATION


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    rows, columns = draw(st.integers(8, 600)), draw(st.integers(8, 600))
    top, left = draw(st.integers(0, rows - 4)), draw(st.integers(0, columns - 4))
    bottom, right = draw(st.integers(top + 4, rows)), draw(st.integers(left + 4, columns))
    scaling = draw(st.sampled_from(("fit", "stretch")))
    return Placement(
        (rows, columns), (top, left, bottom, right), draw(st.integers(16, 512)), scaling
    )


def spot(rows: int, columns: int, at: tuple[int, int]) -> np.ndarray:
    values = np.zeros((rows, columns), dtype=np.float32)
    values[at] = 3.0
    return values


@given(placements(), st.data())
def test_a_map_lies_where_the_input_shows_the_source(place: Placement, data: st.DataObject) -> None:
    explanation = Evidence(CAM, spot(7, 7, (3, 3))).placed("x", place)
    top, left, bottom, right = explanation.extent
    for axis, (first, last) in enumerate(((top, bottom), (left, right))):
        fitted, start = place.fitted[axis], place.inside[axis].start
        line = data.draw(st.integers(0, fitted - 1))
        of_source = place.box[axis] + (line + 0.5) * (
            (place.box[axis + 2] - place.box[axis]) / fitted
        )
        by_extent = first + (start + line + 0.5) / place.size * (last - first)
        assert by_extent == pytest.approx(of_source, abs=0.01)


@given(placements())
def test_nothing_is_shown_where_the_network_saw_nothing(place: Placement) -> None:
    everywhere = Evidence(CAM, np.ones((5, 5), dtype=np.float32)).placed("x", place)
    shown = everywhere.over_source(place.shape)
    assert shown.shape == place.shape
    assert shown.min() >= 0.0
    assert shown.max() == pytest.approx(1.0)
    top, left, bottom, right = place.box
    outside = np.ones(place.shape, dtype=bool)
    outside[top:bottom, left:right] = False
    assert not shown[outside].any()


@given(
    shaped.arrays(np.uint8, shaped.array_shapes(min_dims=2, max_dims=2, max_side=40)),
    placements(),
)
def test_what_is_stored_is_what_was_made(levels: np.ndarray, place: Placement) -> None:
    made = replace(
        Evidence(CAM, spot(*levels.shape, (0, 0)), {"patch": 3}).placed("x", place, (0.3, 0.2)),
        levels=levels,
    )
    record = record_of(made, "1.2.3", 2, "brain 40/80")
    known = explanation_of(record)
    assert np.array_equal(known.levels, levels)
    for name in ("label", "method", "source", "extent", "seen", "parameters", "spacing_mm"):
        assert getattr(known, name) == getattr(made, name)
    assert (record.sop_instance_uid, record.frame, window_of(record)) == ("1.2.3", 2, "brain 40/80")
    assert np.array_equal(known.over_source(), made.over_source())


@given(st.binary(max_size=60))
def test_a_damaged_map_is_an_error_with_a_way_out(content: bytes) -> None:
    place = Placement.whole((64, 64), 64)
    record = record_of(Evidence(CAM, spot(8, 8, (1, 2))).placed("x", place), "1.2", 0)
    with pytest.raises(InferenceError, match="make it again"):
        explanation_of(replace(record, map=content))
    for placement in ("", "[]", "{}", json.dumps({"source": 3})):
        with pytest.raises(InferenceError, match="make it again"):
            explanation_of(replace(record, placement=placement))
        assert window_of(replace(record, placement=placement)) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"extent": [0, 0, 64]},
        {"extent": [0, 0, 0, 0]},
        {"extent": [0, 0, "left", 64]},
        {"source": [0, 64]},
        {"source": [float("inf"), 64]},
        {"seen": 3},
        {"spacing_mm": [0.1]},
    ],
)
def test_a_damaged_place_is_an_error_with_a_way_out(changes: dict[str, object]) -> None:
    place = Placement.whole((64, 64), 64)
    record = record_of(Evidence(CAM, spot(8, 8, (1, 2))).placed("x", place), "1.2", 0)
    placement = json.dumps({**json.loads(record.placement), **changes})
    with pytest.raises(InferenceError, match="make it again"):
        explanation_of(replace(record, placement=placement)).over_source()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_evidence_that_is_no_number_is_no_dark_map(value: float) -> None:
    values = spot(8, 8, (1, 2))
    values[3, 3] = value
    with pytest.raises(InferenceError, match="of x gives what is no number"):
        Evidence(Method.GRADIENTS, values).placed("x", Placement.whole((64, 64), 64))


def test_a_damaged_map_does_not_fill_memory() -> None:
    import zlib

    with pytest.raises(ValueError, match="8 x 8 cells"):
        unpacked(zlib.compress(bytes(10_000_000)), (8, 8))


def test_a_map_takes_little_room() -> None:
    noise = np.random.default_rng(3)
    place = Placement.whole((1024, 1024), 224)
    for side, most in ((7, 100), (8, 110), (16, 320), (32, 1100)):
        made = Evidence(CAM, noise.random((side, side)).astype(np.float32)).placed("x", place)
        assert len(made.packed()) < most  # the worst there is: noise cannot be compressed


def test_one_cell_becomes_one_round_spot_of_its_size_without_an_edge() -> None:
    made = Evidence(CAM, spot(8, 8, (2, 5))).placed("x", Placement.whole((256, 256), 256))
    shown = made.over_source()
    assert np.unravel_index(shown.argmax(), shown.shape) in {
        (row, column) for row in (79, 80) for column in (175, 176)
    }
    np.testing.assert_allclose(shown[80 - 40 : 80 + 40], shown[80 - 40 : 80 + 40][::-1], atol=1e-5)
    # As wide at half its height as a cell and a third: 43 of 32 pixels, not less and not much more.
    assert 40 <= (shown[80] >= 0.5).sum() <= 50
    assert np.abs(np.diff(shown, axis=0)).max() < 0.04  # no step
    assert shown.min() >= 0.0


def test_a_cut_of_the_input_is_no_line() -> None:
    """Evidence at the edge of what the network was shown fades inside it."""
    place = Placement((400, 400), (100, 100, 300, 300), 200)
    shown = Evidence(CAM, np.ones((8, 8), dtype=np.float32)).placed("x", place).over_source()
    assert np.abs(np.diff(shown, axis=1)).max() < 0.15
    whole = Evidence(CAM, np.ones((8, 8), dtype=np.float32)).placed(
        "x", Placement.whole((400, 400), 200)
    )
    np.testing.assert_allclose(whole.over_source(), 1.0, atol=1e-6)


def test_too_little_evidence_is_not_blown_up_to_a_picture() -> None:
    place = Placement.whole((64, 64), 64)
    share = LEAST_EVIDENCE / 64
    weak = np.full((8, 8), 0.9 * share, dtype=np.float32)
    assert not Evidence(CAM, weak).placed("x", place).is_shown
    assert not Evidence(CAM, -100 * weak).placed("x", place).is_shown
    assert Evidence(CAM, 1.2 * weak).placed("x", place).is_shown
    # A map of the network's own is of probabilities: how many places there are does not matter.
    low = np.full((8, 8), 0.9 * LEAST_OWN, dtype=np.float32)
    assert not Evidence(Method.OWN_MAP, low).placed("x", place).is_shown
    assert Evidence(Method.OWN_MAP, 1.2 * low).placed("x", place).is_shown


def test_it_says_how_it_was_made_and_how_coarse_it_is() -> None:
    place = Placement.whole((1024, 1024), 224)
    evidence = Evidence(CAM, spot(7, 7, (1, 1)))
    made = evidence.placed("x", place, (0.3, 0.3))
    assert made.caption == "class activation map, 7 x 7 cells of 44 mm"
    assert made.cell_mm == pytest.approx((43.9, 43.9), abs=0.1)
    assert evidence.placed("x", place).caption == "class activation map, 7 x 7 cells of 146 pixels"
    assert evidence.placed("x", place, (0.3, 0.15)).caption.endswith("cells of 22 x 44 mm")
    fine = Evidence(CAM, spot(7, 7, (1, 1))).placed("x", Placement.whole((7, 7), 7))
    assert fine.caption.endswith("7 x 7 cells of 1 pixel")
    assert made.facts == {
        "label": "x",
        "method": "class-activation",
        "rows": 7,
        "columns": 7,
        "cell_mm": [43.89, 43.89],
    }
    assert made.parameters["highest"] == 3.0


def test_cells_that_reach_beyond_the_input_lie_where_they_are() -> None:
    made = Evidence(Method.OCCLUSION, spot(4, 4, (0, 0)), cell=30.0).placed(
        "x", Placement.whole((200, 200), 100)
    )
    assert made.extent == (0.0, 0.0, 240.0, 240.0)
    assert made.cell_pixels == (60.0, 60.0)


def test_what_a_bundle_wants_in_every_picture(chest_bundle: Bundle) -> None:
    for name, wanted in (
        ("none", None),
        ("class-activation", Wanted()),
        ("occlusion", Wanted(Method.OCCLUSION)),
    ):
        assert wanted_of(replace(chest_bundle, explanation=name)) == wanted
        maps = replace(chest_bundle, explanation=name, masks=True)
        assert wanted_of(maps) == (None if name == "none" else Wanted())


def test_names_of_explanations() -> None:
    assert explanation_named("none") == "none"
    with pytest.raises(ValueError, match="class-activation, gradients, occlusion"):
        explanation_named("grad-cam")
    assert {str(one) for one in Method} == {
        "class-activation", "gradients", "occlusion", "integrated-gradients", "own-map",
    }  # fmt: skip
    assert isinstance(
        Evidence(CAM, spot(2, 2, (0, 0))).placed("x", Placement.whole((9, 9), 9)), Explanation
    )
