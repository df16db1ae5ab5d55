"""Which engine a finding is credited to."""

from __future__ import annotations

from inference.engines import MadeWith
from inference.provenance import with_engines
from inference.reading import Code, Finding, Label, Reading, Scope, Thresholds

LABEL = Label("any", Code("1386000", "SCT", "Intracranial hemorrhage"), Thresholds(0.2, 0.6))
GPU8 = MadeWith("torch-cuda", "2", "cuda:0", "bfloat16", 8)
GPU3 = MadeWith("torch-cuda", "2", "cuda:0", "bfloat16", 3)
CPU = MadeWith("onnxruntime", "1", "cpu", "float32", 4)


def reading(*uids: str) -> Reading:
    images = tuple(Finding(LABEL, Scope.IMAGE, 0.5, uid) for uid in uids)
    return Reading((Finding(LABEL, Scope.SERIES, 0.5), *images), uids)


def credited(found: Reading) -> dict[str | None, MadeWith | None]:
    return {one.sop_instance_uid: one.made_with for one in found.findings}


def test_an_image_has_its_own_batch_and_a_series_what_most_have() -> None:
    rows = ("1", "2", "3", "4")
    found = with_engines(reading(*rows), rows, (GPU8, CPU, CPU, GPU3))
    assert credited(found) == {None: CPU, "1": GPU8, "2": CPU, "3": CPU, "4": GPU3}
    assert found.facts["made_with"] == [
        {**GPU8.facts, "rows": 1},
        {**CPU.facts, "rows": 2},
        {**GPU3.facts, "rows": 1},
    ]


def test_of_two_as_frequent_it_is_the_first() -> None:
    found = with_engines(reading("1", "2"), ("1", "2"), (GPU3, CPU))
    assert credited(found)[None] == GPU3


def test_an_image_of_several_frames_has_what_most_of_them_have() -> None:
    found = with_engines(reading("1", "2"), ("1", "1", "1", "2"), (CPU, GPU8, GPU8, CPU))
    assert credited(found) == {None: CPU, "1": GPU8, "2": CPU}


def test_what_is_not_known_is_not_said_and_two_findings_are_equal_whatever_made_them() -> None:
    found = with_engines(reading("1"), ("1",), ())
    assert set(credited(found).values()) == {None}
    assert "made_with" not in found.facts
    assert with_engines(reading("1"), ("1",), (CPU,)).findings == found.findings


def test_windows_of_a_volume_are_no_images() -> None:
    found = with_engines(reading(), (), (CPU, CPU, GPU3))
    assert credited(found) == {None: CPU}
