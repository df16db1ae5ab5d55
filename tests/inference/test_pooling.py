import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.bundle import Bundle
from inference.pooling import SeriesPooling
from inference.postprocess import image_findings, series_findings
from inference.reading import Presence, Scope

PROBABILITIES = hnp.arrays(np.float64, (9, 2), elements=st.floats(0, 1))


@given(PROBABILITIES, st.floats(0, 50), st.floats(0.3, 10))
def test_smoothing_stays_within_what_was_there(
    probabilities: np.ndarray, reach: float, spacing: float
) -> None:
    smoothed = SeriesPooling(reach_mm=reach).smooth(probabilities, np.arange(9) * spacing)
    assert (smoothed <= probabilities.max(axis=0) + 1e-12).all()
    assert (smoothed >= probabilities.min(axis=0) - 1e-12).all()


def test_neighbours_count_by_their_distance() -> None:
    single = np.array([[0.0], [0.0], [1.0], [0.0], [0.0]])
    five = SeriesPooling(reach_mm=10).smooth(single, np.arange(5) * 5.0)
    assert five[:, 0].tolist() == pytest.approx([0, 0.25, 0.5, 0.25, 0])
    plain = SeriesPooling(reach_mm=0).smooth(single, np.arange(5) * 5.0)
    assert plain.max() == 1.0


def test_memory_of_smoothing_does_not_grow_with_the_square_of_the_slices() -> None:
    positions = np.random.default_rng(2).permutation(4000) * 0.4
    single = np.random.default_rng(3).random((4000, 2))
    tracemalloc.start()
    smoothed = SeriesPooling(reach_mm=10).smooth(single, positions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # of all from all it were 256 MB
    for slice_ in (0, 129, 3999):
        weights = np.clip(1 - np.abs(positions - positions[slice_]) / 10, 0, None)
        expected = weights @ single / weights.sum()
        np.testing.assert_allclose(smoothed[slice_], expected, atol=1e-12)


def test_a_series_has_every_label_then_its_slices(ct_bundle: Bundle) -> None:
    uids = [f"1.2.{n}" for n in range(6)]
    probabilities = np.full((6, 6), 0.02)
    probabilities[2:5, 0] = 0.9
    probabilities[3, 5] = 0.6
    findings = series_findings(ct_bundle, uids, np.arange(6) * 5.0, probabilities)
    of_series = [finding for finding in findings if finding.scope is Scope.SERIES]
    assert findings[: len(of_series)] == tuple(of_series)
    assert [finding.label.name for finding in of_series] == [
        label.name for label in ct_bundle.labels
    ]
    anywhere, subdural = of_series[0], of_series[5]
    assert anywhere.presence is Presence.PRESENT
    assert anywhere.probability == pytest.approx(0.9)
    assert anywhere.key_sop_instance_uids == ("1.2.3", "1.2.2", "1.2.4")
    assert subdural.presence is Presence.UNDETERMINED
    assert subdural.key_sop_instance_uids[0] == "1.2.3"
    assert of_series[1].key_sop_instance_uids == ()
    of_images = findings[len(of_series) :]
    assert [f.sop_instance_uid for f in of_images if f.label.name == "any"] == uids
    assert {f.sop_instance_uid for f in of_images if f.label.name == "subdural"} == {
        "1.2.2",
        "1.2.3",
        "1.2.4",
    }


def test_frames_of_one_image_count_as_their_highest(chest_bundle: Bundle) -> None:
    findings = image_findings(chest_bundle, ["1", "1", "2"], np.array([[0.2], [0.7], [0.01]]))
    assert [(f.sop_instance_uid, f.probability) for f in findings] == [("1", 0.7), ("2", 0.01)]
    assert [f.key_sop_instance_uids for f in findings] == [("1",), ()]


def test_pooling_survives_its_json_form() -> None:
    pooling = SeriesPooling(reach_mm=7.5, key_slices=5)
    assert SeriesPooling.from_dict(pooling.to_dict()) == pooling
    with pytest.raises(ValueError, match="outside 1 to 20"):
        SeriesPooling(key_slices=0)
