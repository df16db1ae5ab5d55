"""All objects of one analysis: which there are, what they say of each other, and what may fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import Dataset
from read_sources import ABSENT, PRESENT, UNDETERMINED, read, refused
from varied_sources import VariedSource, make_source

from inference import codes, result_objects
from inference.errors import InvalidObjectError, ObjectError
from inference.objects import secondary_capture
from inference.objects.checks import named, nodes
from inference.objects.picture import Caption
from inference.reading import Measurement, Presence, Reading, Thresholds
from inference.result_objects import KINDS, ResultBasis, ResultObjects, make_objects


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> VariedSource:
    return make_source("ct of GE", tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> VariedSource:
    return make_source("secondary capture", tmp_path_factory.mktemp("film"))


def reading_of(basis: ResultBasis) -> Reading:
    assert basis.reading is not None
    return basis.reading


def uids(result: ResultObjects, *kinds: str) -> set[str]:
    return {str(made.dataset.SOPInstanceUID) for made in result.made if made.kind in kinds}


def one(result: ResultObjects, kind: str) -> Dataset:
    (found,) = [made.dataset for made in result.made if made.kind == kind]
    return found


@contextmanager
def captions() -> Iterator[list[Caption]]:
    """Have the words of pictures recorded, and nothing drawn or built of them."""
    seen: list[Caption] = []

    def draw(*given: Any) -> Any:
        seen.append(given[-1])
        return np.zeros((8, 8, 3), dtype=np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_objects, "draw", draw)
        patch.setattr(result_objects, "draw_card", draw)
        for name in ("capture", "segmentation", "key_objects"):
            broken = failing(None, lambda _: True, ObjectError("only words are wanted"))
            patch.setattr(result_objects, f"build_{name}", broken)
        patch.setattr(result_objects, "build_report", lambda content: Dataset())
        yield seen


def words(basis: ResultBasis) -> list[Caption]:
    with captions() as seen:
        make_objects(basis)
    return seen


def test_pictures_say_how_large_it_is(ct: VariedSource) -> None:
    basis = read(ct)
    reading = reading_of(basis)
    label = next(f.label for f in reading.findings if f.presence is Presence.PRESENT)
    volume = Measurement(label.name, codes.VOLUME, 12.345, codes.MILLILITRE)
    said = words(replace(basis, reading=replace(reading, measurements=(volume,))))
    lines = [line for caption in said for line in caption.lines]
    assert any(line.endswith(" %, volume 12.3 ml") for line in lines)
    assert not any("volume" in line for caption in words(basis) for line in caption.lines)


def failing(
    original: Callable[[Any], Dataset] | None, fails: Callable[[Any], bool], error: Exception
) -> Callable[[Any], Dataset]:
    def build(content: Any) -> Dataset:
        if original is None or fails(content):
            raise error
        return original(content)

    return build


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(PRESENT, "seg sc sc sc sr ko"), (ABSENT, "sc sr")],
)
def test_objects_of_a_series_in_their_order(
    probability: float, expected: str, ct: VariedSource
) -> None:
    result = make_objects(read(ct, probability))
    assert [made.kind for made in result.made] == expected.split()
    assert [made.fault for made in result.made] == [None] * len(result.made)
    assert result.failures == {}


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(PRESENT, "seg sc sr"), (UNDETERMINED, "sc sr"), (ABSENT, "sc sr")],
)
def test_a_radiograph_has_no_key_objects(
    probability: float, expected: str, film: VariedSource
) -> None:
    result = make_objects(read(film, probability))
    assert [made.kind for made in result.made] == expected.split()


def test_the_report_refers_to_its_companions_and_key_objects_to_all(ct: VariedSource) -> None:
    result = make_objects(read(ct))
    sources = {str(source.SOPInstanceUID) for source in read(ct).sources}
    assert set(named(nodes(one(result, "sr")))) - sources == uids(result, "seg", "sc")
    assert set(named(nodes(one(result, "ko")))) - sources == uids(result, "sc")


@pytest.mark.parametrize("of_report", [(), ("sr",), ("sc",), ("seg", "ko"), KINDS])
@pytest.mark.parametrize("of_keys", [(), ("sr",), ("sc", "ko")])
def test_what_goes_elsewhere_is_not_referred_to(
    of_report: tuple[str, ...], of_keys: tuple[str, ...], ct: VariedSource
) -> None:
    """Each refers to what goes wherever it goes itself, and to nothing else."""
    basis = read(ct, together={"sr": of_report, "ko": of_keys})
    result = make_objects(basis)
    sources = {str(ds.SOPInstanceUID) for ds in basis.sources}
    assert {one.kind for one in result.made} == set(KINDS)
    beside = uids(result, *({"seg", "sc"} & set(of_report)))
    assert set(named(nodes(one(result, "sr")))) - sources == beside
    expected = uids(result, *({"sc"} & set(of_keys)))
    assert set(named(nodes(one(result, "ko")))) - sources == expected


def test_masks_of_absent_labels_and_empty_masks_make_no_segmentation(ct: VariedSource) -> None:
    basis = read(ct)
    reading = reading_of(basis)
    absent = [replace(mask, label="epidural") for mask in reading.masks[:1]]
    empty = [replace(mask, pixels=np.zeros_like(mask.pixels)) for mask in reading.masks]
    for masks in (absent, empty):
        changed = replace(basis, reading=replace(reading, masks=tuple(masks)))
        assert "seg" not in [made.kind for made in make_objects(changed).made]


def test_a_companion_that_fails_stops_no_other(
    ct: VariedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = failing(result_objects.build_capture, lambda c: c.number == 2, ObjectError("no room"))
    monkeypatch.setattr(result_objects, "build_capture", build)
    result = make_objects(read(ct))
    assert [made.kind for made in result.made] == ["seg", "sc", "sc", "sr", "ko"]
    assert result.failures == {"sc": "no room"}
    assert [ds.InstanceNumber for ds in result.good("sc")] == [1, 3]
    assert uids(result, "sc") <= set(named(nodes(one(result, "sr"))))


@pytest.mark.parametrize("kind", ["segmentation", "key_objects"])
def test_any_kind_of_companion_may_fail(
    kind: str, ct: VariedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"build_{kind}"
    broken = failing(getattr(result_objects, name), lambda _: True, ObjectError("broken"))
    monkeypatch.setattr(result_objects, name, broken)
    result = make_objects(read(ct))
    short = {"segmentation": "seg", "key_objects": "ko"}[kind]
    assert result.failures == {short: "broken"}
    assert {made.kind for made in result.made} == set(KINDS) - {short}


def test_a_report_that_cannot_be_made_is_an_error(
    ct: VariedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = failing(result_objects.build_report, lambda _: True, ObjectError("broken"))
    monkeypatch.setattr(result_objects, "build_report", broken)
    with pytest.raises(ObjectError, match="broken"):
        make_objects(read(ct))


def refusing(wanted: Callable[[Dataset], bool]) -> Callable[..., None]:
    def validate(ds: Dataset, **_: object) -> None:
        if wanted(ds):
            raise InvalidObjectError("it breaks a promise", ds)

    return validate


def test_a_capture_that_breaks_its_check_is_kept_with_its_fault(
    ct: VariedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secondary_capture, "validate", refusing(lambda ds: ds.InstanceNumber == 2))
    result = make_objects(read(ct))
    assert [made.kind for made in result.made] == ["seg", "sc", "sc", "sc", "sr", "ko"]
    (bad,) = [made for made in result.made if made.fault is not None]
    assert (bad.kind, bad.dataset.InstanceNumber) == ("sc", 2)
    assert bad.fault == "it breaks a promise"
    assert result.failures == {}
    assert len(result.good("sc")) == 2
    for kind in ("sr", "ko"):
        assert str(bad.dataset.SOPInstanceUID) not in named(nodes(one(result, kind)))


def test_a_report_that_breaks_its_check_is_kept_and_not_referred_to(
    ct: VariedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.objects.sr.validate", refusing(lambda _: True))
    result = make_objects(read(ct))
    faults = {made.kind: made.fault for made in result.made if made.fault}
    assert faults == {"sr": "it breaks a promise"}
    assert result.good("sr") == ()
    assert not uids(result, "sr") & set(named(nodes(one(result, "ko"))))


def test_what_was_not_analysed_is_a_card_and_a_report(film: VariedSource) -> None:
    basis = refused(film, "wrong_view", "View Position (0018,5101) is LL")
    result = make_objects(basis)
    assert [made.kind for made in result.made] == ["sc", "sr"]
    (caption,) = words(basis)
    assert caption.title == "pneumothorax 1.0.0"
    assert caption.lines == (
        "Not analyzed: wrong view",
        "Reason: View Position (0018,5101) is LL.",
    )


def test_captions_name_label_slice_and_window(ct: VariedSource) -> None:
    """What shares a code names its site; the place is the slice's own."""
    seen = words(read(ct))
    assert [caption.title for caption in seen] == ["hemorrhage 2.1.0"] * 3
    assert [caption.lines for caption in seen] == [
        (
            "Intracranial hemorrhage (Intracranial): Present, AI probability 97 %",
            "Cerebral hemorrhage: Present, AI probability 94 %",
        ),
        ("Subdural intracranial hemorrhage: Present, AI probability 61 %",),
        (
            "Intracranial hemorrhage (Intracranial): Present, AI probability 97 %",
            "Intracranial hemorrhage (Brain ventricle): Undetermined, AI probability 31 %",
            "Subdural intracranial hemorrhage: Present, AI probability 61 %",
        ),
    ]
    assert [caption.footer for caption in seen] == [
        "Slice 6 of 12, at -45.7 mm, window brain 40/80",
        "Slice 7 of 12, at -40.7 mm, window subdural 80/200",
        "Slice 8 of 12, at -35.7 mm, window brain 40/80",
    ]


def test_a_picture_without_a_finding_states_all_of_them(ct: VariedSource) -> None:
    (caption,) = words(read(ct, ABSENT))
    assert len(caption.lines) == 6
    assert all("Absent, AI probability 2 %" in line for line in caption.lines)


def test_frames_of_one_image_are_told_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    source = make_source("enhanced ct", tmp_path_factory.mktemp("enhanced"))
    footers = [caption.footer for caption in words(read(source))]
    assert [footer.split(",")[0] for footer in footers] == ["frame 1 of 2", "frame 2 of 2"]


def test_a_radiograph_has_no_place(film: VariedSource) -> None:
    (caption,) = words(read(film))
    assert caption == Caption(
        "pneumothorax 1.0.0", ("Pneumothorax: Present, AI probability 93 %",), ""
    )


LIMITS = st.tuples(
    st.floats(0.0, 1.0, allow_subnormal=False), st.floats(0.0, 1.0, allow_subnormal=False)
).map(sorted)


@given(limits=LIMITS, where=st.sampled_from(["any", "below", "at"]), free=st.floats(0.0, 1.0))
@example(limits=[0.2, 0.5], where="below", free=0.0)
@example(limits=[0.152, 0.857], where="below", free=0.0)
@example(limits=[0.2, 0.5], where="any", free=0.4999999)
@example(limits=[0.0, 0.0], where="at", free=0.0)
def test_a_percentage_never_contradicts_the_presence(
    made_up: ResultBasis, limits: list[float], where: str, free: float
) -> None:
    """Also a hair below a threshold, where whole per cents would say that it is reached."""
    low, high = limits
    probability = {"any": free, "at": high, "below": max(0.0, math.nextafter(high, 0.0))}[where]
    reading = reading_of(made_up)
    (finding,) = reading.findings
    label = replace(finding.label, thresholds=Thresholds(low, high))
    changed = replace(finding, label=label, probability=probability)
    (caption,) = words(replace(made_up, reading=replace(reading, findings=(changed,))))
    (line,) = caption.lines
    what, told = line.removeprefix("Pneumothorax: ").removesuffix(" %").split(", AI probability ")
    assert label.thresholds.presence(float(Decimal(told) / 100)) is Presence(what)
    assert Presence(what) is changed.presence
    assert "e" not in told.lower()
    assert abs(float(told) - 100 * probability) <= 0.51


@pytest.fixture(scope="module")
def made_up(film: VariedSource) -> ResultBasis:
    """Return the basis of a radiograph whose picture is not drawn, so made once."""
    return read(film)
