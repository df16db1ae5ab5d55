"""Several files under one SOP Instance UID: a copy is read once, other bytes are never mixed in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation

from inference.bundle import Bundle
from inference.errors import NotAnalysableError
from inference.evaluation.series import find_series, read_series
from inference.model import load_reader
from inference.reading import NotAnalysed, SourceImage

Sources = Callable[[Iterable[Path]], list[SourceImage]]
Write = Callable[..., Path]
Change = Callable[[Path, str], Path]

TOLD = r"as another one with other bytes has their SOP Instance UID \(0008,0018\)"


@pytest.fixture
def slices(write_image: Write) -> list[Path]:
    """Write a head of four slices, each with two values."""
    return [
        write_image(
            np.full((64, 64), 30 + number, np.int16) + 20 * np.eye(64, dtype=np.int16),
            BodyPartExamined="HEAD",
            SeriesInstanceUID="1.2.3.4",
            ImagePositionPatient=[-100, -100, 5 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            SliceThickness=5,
            InstanceNumber=number + 1,
        )
        for number in range(4)
    ]


@pytest.fixture
def films(write_image: Write) -> list[Path]:
    """Write two films of a chest."""
    rng = np.random.default_rng(1)
    return [
        write_image(
            rng.integers(0, 4000, (96, 80)).astype(np.uint16),
            SOPClassUID=DigitalXRayImageStorageForPresentation,
            BitsStored=12,
            Modality="DX",
            BodyPartExamined="CHEST",
            SeriesInstanceUID="1.2.3.5",
        )
        for _ in range(2)
    ]


@pytest.fixture
def copied(tmp_path: Path) -> Change:
    """Copy a file under another name."""

    def copy(path: Path, name: str) -> Path:
        return Path(shutil.copy(path, tmp_path / name))

    return copy


@pytest.fixture
def altered(copied: Change) -> Change:
    """Copy a file under another name, with other pixels and the same UID."""

    def alter(path: Path, name: str) -> Path:
        there = copied(path, name)
        dataset = dcmread(there)
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(there)
        return there

    return alter


def test_a_copy_of_a_slice_changes_nothing(
    ct_bundle: Bundle, slices: list[Path], sources: Sources, copied: Change
) -> None:
    reader = load_reader(ct_bundle, "cpu")
    alone = reader.read(sources(slices))
    both = reader.read(sources([*slices, copied(slices[1], "copy.dcm")]))
    assert both == alone
    assert both.used_sop_instance_uids == alone.used_sop_instance_uids
    assert both.facts["slices"] == 4
    assert both.facts["duplicate_positions"] == 0
    assert "conflicting_files" not in both.facts


def test_of_slices_with_other_bytes_the_first_is_read_and_the_others_are_told(
    ct_bundle: Bundle, slices: list[Path], sources: Sources, copied: Change, altered: Change
) -> None:
    reader = load_reader(ct_bundle, "cpu")
    uid = str(dcmread(slices[2]).SOPInstanceUID)
    alone = reader.read(sources(slices))
    more = [copied(slices[2], "copy.dcm"), altered(slices[2], "a.dcm"), altered(slices[2], "b.dcm")]
    images = sources([*slices, *more])
    for order in (images, images[::-1]):
        read = reader.read(order)
        assert read.findings == alone.findings
        assert dict(read.facts) == {**alone.facts, "conflicting_files": {uid: 2}}
    last = reader.read(sources([*more[1:], *slices]))
    assert last.findings != alone.findings, "the first is another one now"
    assert last.facts["conflicting_files"] == {uid: 1}


def test_a_film_with_other_bytes_is_told_and_a_copy_is_read_once(
    chest_bundle: Bundle, films: list[Path], sources: Sources, copied: Change, altered: Change
) -> None:
    reader = load_reader(chest_bundle, "cpu")
    uid = str(dcmread(films[0]).SOPInstanceUID)
    alone = reader.read(sources(films))
    copy = reader.read(sources([*films, copied(films[0], "copy.dcm")]))
    assert copy == alone
    other = reader.read(sources([*films, altered(films[0], "other.dcm")]))
    assert other.findings == alone.findings
    assert dict(other.facts) == {**alone.facts, "conflicting_files": {uid: 1}}


def test_the_one_that_is_read_is_the_first_that_passes(
    chest_bundle: Bundle, films: list[Path], sources: Sources, copied: Change
) -> None:
    lateral = copied(films[0], "lateral.dcm")
    dataset = dcmread(lateral)
    dataset.ViewPosition = "LL"
    dataset.save_as(lateral)
    reading = load_reader(chest_bundle, "cpu").read(sources([lateral, films[0]]))
    assert reading.facts["conflicting_files"] == {str(dataset.SOPInstanceUID): 1}
    assert "set_aside" not in reading.facts
    (found,), _ = find_series([lateral, films[0]])
    (result,) = read_series(load_reader(chest_bundle, "cpu"), [found])
    assert result.key == films[0]
    with pytest.raises(NotAnalysableError) as refusal:
        load_reader(chest_bundle, "cpu").read(sources([lateral]))
    assert refusal.value.code == NotAnalysed.WRONG_VIEW


def cut(path: Path, left: float) -> Path:
    """Write the first part of a file beside it."""
    there = path.with_name("cut.dcm")
    there.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    return there


def test_a_file_that_cannot_be_opened_does_not_stand_for_its_image(
    ct_bundle: Bundle, slices: list[Path], sources: Sources
) -> None:
    reader, images = load_reader(ct_bundle, "cpu"), sources(slices)
    short = replace(images[1], instance_id=-1, path=cut(slices[1], 0.01))
    reading = reader.read([short, *images])
    assert reading.facts["slices"] == 4
    assert reading.facts["conflicting_files"] == {short.sop_instance_uid: 1}
    with pytest.raises(NotAnalysableError) as refusal:
        reader.read([images[0], short, *images[2:]])
    assert refusal.value.code == NotAnalysed.UNDECODABLE


def test_a_slice_without_all_its_pixels_is_refused_and_tells_of_the_other(
    ct_bundle: Bundle, slices: list[Path], sources: Sources
) -> None:
    images = sources([cut(slices[1], 0.9), *slices])
    with pytest.raises(NotAnalysableError, match=f"{TOLD}: 1$") as refusal:
        load_reader(ct_bundle, "cpu").read(images)
    assert refusal.value.code == NotAnalysed.UNDECODABLE
    assert dict(refusal.value.facts or {})["conflicting_files"] == {images[0].sop_instance_uid: 1}


def test_a_film_without_all_its_pixels_is_refused_and_tells_of_the_other(
    chest_bundle: Bundle, films: list[Path], sources: Sources
) -> None:
    reader = load_reader(chest_bundle, "cpu")
    images = sources([cut(films[0], 0.9), *films])
    uid = images[0].sop_instance_uid
    with pytest.raises(NotAnalysableError, match=f"{TOLD}: 1$") as refusal:
        reader.read(images[:2])
    assert refusal.value.code == NotAnalysed.UNDECODABLE
    with_another = reader.read(images)
    assert with_another.facts["set_aside"] == {uid: "undecodable"}
    assert with_another.facts["conflicting_files"] == {uid: 1}


def test_a_series_that_is_too_short_without_them_says_so(
    ct_bundle: Bundle, slices: list[Path], sources: Sources
) -> None:
    """As of data whose makers gave all images one UID."""
    for path in slices:
        dataset = dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9"
        dataset.save_as(path)
    with pytest.raises(NotAnalysableError) as refusal:
        load_reader(ct_bundle, "cpu").read(sources(slices))
    assert refusal.value.code == NotAnalysed.TOO_FEW_SLICES
    assert refusal.value.reason.endswith("SOP Instance UID (0008,0018): 3")
    assert dict(refusal.value.facts or {})["conflicting_files"] == {"1.2.3.9": 3}


def test_a_folder_read_by_series_tells_of_them(
    ct_bundle: Bundle, slices: list[Path], copied: Change, altered: Change
) -> None:
    nameless = copied(slices[0], "nameless.dcm")
    dataset: Any = dcmread(nameless)
    del dataset.SOPInstanceUID
    dataset.save_as(nameless)
    more = [copied(slices[1], "copy.dcm"), altered(slices[1], "other.dcm"), nameless]
    series, strays = find_series([*slices, *more])
    assert strays == [(nameless, "has no SOP Instance UID (0008,0018)")]
    (result,) = read_series(load_reader(ct_bundle, "cpu"), series)
    assert (len(result.series.images), result.used, result.fault) == (6, 4, "")
    assert "other bytes under the SOP Instance UID of an image: 1" in result.notes
    (plain,) = read_series(load_reader(ct_bundle, "cpu"), find_series(slices)[0])
    assert result.probabilities == plain.probabilities
