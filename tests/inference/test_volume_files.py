"""Geometry of real series of files, through a reader: order, tilt, spacing, duplicates, gaps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from inference.bundle import Bundle
from inference.ct_slices_reader import CtSlicesReader
from inference.decoded import Decoded
from inference.errors import NotAnalysableError
from inference.image_file import open_image
from inference.reading import NotAnalysed, SourceImage
from inference.volume import arrange, slices_of

Sources = Callable[[Iterable[Path]], list[SourceImage]]
Write = Callable[..., Path]
Series = Callable[..., list[Path]]

AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]


@pytest.fixture
def series(write_image: Write) -> Series:
    """Write a slice for each position along z; the value of its pixels says which it is."""

    def write(positions: Sequence[float], **elements: Any) -> list[Path]:
        return [
            write_image(
                np.full((64, 64), index, np.int16) + np.eye(64, dtype=np.int16),
                BodyPartExamined="HEAD",
                ImagePositionPatient=[-100, -100, round(z, 3)],
                ImageOrientationPatient=AXIAL,
                SliceThickness=5,
                InstanceNumber=index + 1,
                **elements,
            )
            for index, z in enumerate(positions)
        ]

    return write


def decode(bundle: Bundle, images: list[SourceImage], seed: int = 5) -> Decoded:
    """Let a reader have the images in any order."""
    return CtSlicesReader(bundle).decode(random.Random(seed).sample(images, len(images)))


def numbers(decoded: Decoded, paths: list[Path]) -> list[int]:
    """Return which files the rows are, by their place in `paths`."""
    uids = [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]
    return [uids.index(uid) for uid in decoded.uids]


def test_files_are_ordered_by_position_not_by_number(
    ct_bundle: Bundle, series: Series, sources: Sources
) -> None:
    paths = series([15, 0, 10, 5])
    decoded = decode(ct_bundle, sources(paths))
    assert numbers(decoded, paths) == [1, 3, 2, 0]
    assert decoded.facts["ordered_by"] == "position"
    assert decoded.facts["spacing_mm"] == 5.0
    assert decoded.facts["spacing_even"]
    # The pixels follow their headers.
    (batch,) = list(decoded.batches)
    middle = batch.tensor[:, 0, 2, 20]
    assert middle.tolist() == pytest.approx([1 / 80, 3 / 80, 2 / 80, 0])


def test_a_tilted_gantry_shows_as_tilt_and_shear(
    ct_bundle: Bundle, series: Series, sources: Sources
) -> None:
    angle = np.radians(20)
    paths = series([5 * n / np.cos(angle) for n in range(6)], GantryDetectorTilt=20)
    for path in paths:
        dataset = dcmread(path)
        dataset.ImageOrientationPatient = [
            1, 0, 0, 0, round(float(np.cos(angle)), 6), round(float(-np.sin(angle)), 6)
        ]  # fmt: skip
        dataset.save_as(path)
    facts = decode(ct_bundle, sources(paths)).facts
    assert facts["spacing_mm"] == pytest.approx(5, abs=2e-3)
    assert facts["plane_tilt_degrees"] == facts["shear_degrees"] == pytest.approx(20, abs=0.01)
    assert facts["gantry_tilt_degrees"] == 20


def test_slices_at_one_position_are_read_and_counted(
    ct_bundle: Bundle, series: Series, sources: Sources
) -> None:
    paths = series([0, 5, 5, 10, 15])
    decoded = decode(ct_bundle, sources(paths))
    assert len(decoded.uids) == 5
    assert decoded.facts["duplicate_positions"] == 1


def test_the_same_instance_twice_is_read_once(
    ct_bundle: Bundle, series: Series, sources: Sources
) -> None:
    paths = series([0, 5, 10, 15])
    decoded = decode(ct_bundle, sources([*paths, paths[2]]))
    assert numbers(decoded, paths) == [0, 1, 2, 3]


def test_a_missing_slice_is_a_gap(ct_bundle: Bundle, series: Series, sources: Sources) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        decode(ct_bundle, sources(series([0, 5, 15, 20, 25])))
    assert refusal.value.code == NotAnalysed.MISSING_SLICES
    assert "5.0 to 15.0 mm" in refusal.value.reason


def test_localizers_other_planes_and_other_sizes_are_set_aside(
    ct_bundle: Bundle, series: Series, sources: Sources, write_image: Write
) -> None:
    paths = series([0, 5, 10, 15])
    head: dict[str, Any] = {"BodyPartExamined": "HEAD", "ImagePositionPatient": [0, 0, 0]}
    scout = write_image(
        np.zeros((64, 64), np.int16),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=CORONAL,
        **head,
    )
    coronal = write_image(np.zeros((64, 64), np.int16), ImageOrientationPatient=CORONAL, **head)
    large = write_image(np.zeros((80, 80), np.int16), ImageOrientationPatient=AXIAL, **head)
    decoded = decode(ct_bundle, sources([scout, coronal, large, *paths]))
    assert numbers(decoded, paths) == [0, 1, 2, 3]
    assert decoded.facts["set_aside"] == {
        str(dcmread(path).SOPInstanceUID): reason
        for path, reason in (
            (scout, "localizer"),
            (coronal, "other_geometry"),
            (large, "other_geometry"),
        )
    }


def test_a_capture_of_a_screen_among_slices_is_set_aside(
    ct_bundle: Bundle, series: Series, sources: Sources, write_image: Write
) -> None:
    """It has their size and no position: without its colour it would join them."""
    paths = series([0, 5, 10, 15])
    capture = write_image(np.zeros((64, 64), np.uint8), BodyPartExamined="HEAD")
    dataset = dcmread(capture)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = 0
    dataset.PixelData = bytes(range(64)) * 64 * 3
    dataset.save_as(capture)
    decoded = decode(ct_bundle, sources([*paths, capture]))
    assert numbers(decoded, paths) == [0, 1, 2, 3]
    assert decoded.facts["set_aside"] == {str(dataset.SOPInstanceUID): "colour"}
    assert decoded.facts["ordered_by"] == "position"
    assert len(list(decoded.batches)) == 1


@pytest.mark.parametrize("without", ["position", "location"])
def test_files_without_positions_are_ordered_by_what_they_have(
    ct_bundle: Bundle, series: Series, sources: Sources, without: str
) -> None:
    paths = series([0, 5, 10, 15])
    for index, path in enumerate(paths):
        dataset = dcmread(path)
        del dataset.ImagePositionPatient
        dataset.InstanceNumber = 4 - index
        if without == "position":
            dataset.SliceLocation = [7, 1, 5, 3][index]
        dataset.save_as(path)
    bundle = replace(ct_bundle, suitability=replace(ct_bundle.suitability, max_gap=0.0))
    decoded = decode(bundle, sources(paths))
    if without == "position":
        assert numbers(decoded, paths) == [1, 3, 2, 0]
        assert decoded.facts["ordered_by"] == "slice_location"
    else:
        assert numbers(decoded, paths) == [3, 2, 1, 0]
        assert decoded.facts["ordered_by"] == "instance_number"


def test_frames_of_one_enhanced_file_are_slices_in_order(
    ct_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    """Each frame has its own position, rescale and type; the frames are stored out of order."""
    heights = [10, 0, 15, 5, 99]
    pixels = np.stack([np.full((64, 64), 1000 + z, np.uint16) for z in heights])
    path = write_image(pixels, BodyPartExamined="HEAD", NumberOfFrames=len(heights))
    dataset = dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.SharedFunctionalGroupsSequence = [group(PlaneOrientationSequence={
        "ImageOrientationPatient": AXIAL
    }, PixelMeasuresSequence={"SliceThickness": 5, "PixelSpacing": [0.5, 0.5]})]  # fmt: skip
    dataset.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePositionSequence={"ImagePositionPatient": [-100, -100, z]},
            PixelValueTransformationSequence={
                "RescaleSlope": 1,
                "RescaleIntercept": -1000 + number,
                "RescaleType": "HU",
            },
            CTImageFrameTypeSequence={
                "FrameType": ["ORIGINAL", "PRIMARY", "LOCALIZER" if z == 99 else "VOLUME", "NONE"]
            },
        )
        for number, z in enumerate(heights)
    ]
    dataset.save_as(path)
    (source,) = sources([path])
    stack = arrange(slices_of(source, open_image(path)))
    assert [one.frame for one in stack.slices] == [1, 3, 0, 2]
    assert stack.positions_mm.tolist() == [0, 5, 10, 15]
    decoded = decode(ct_bundle, [source])
    assert decoded.frames == (1, 3, 0, 2)
    with pytest.raises(NotAnalysableError, match="no slice has contrast"):
        list(decoded.batches)
    flat = replace(ct_bundle.suitability, min_slices=1)
    first = next(iter(decode(replace(ct_bundle, suitability=flat), [source]).batches))
    # HU of the frames in order: z and its number; each picture has one grey in the brain window.
    found = first.tensor[:, 0, 16, 16].tolist()
    assert found == pytest.approx([1 / 80, 8 / 80, 10 / 80, 17 / 80], abs=1e-6)


def group(**macros: dict[str, Any]) -> Dataset:
    """Return a functional group of macros of one item each."""
    found = Dataset()
    for keyword, elements in macros.items():
        item = Dataset()
        for name, value in elements.items():
            setattr(item, name, value)
        setattr(found, keyword, [item])
    return found


def test_a_series_of_pictures_says_so_in_its_notes(
    ct_bundle: Bundle, series: Series, sources: Sources
) -> None:
    paths = series([0, 5, 10, 15])
    for path in paths:
        dataset = dcmread(path)
        greys = np.linspace(0, 255, 64 * 64).astype(np.uint8)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.PixelData = greys.tobytes()
        dataset.save_as(path)
        assert dataset.SOPClassUID == CTImageStorage
    reader = CtSlicesReader(ct_bundle)
    reader.setup("cpu")
    facts = reader.read(sources(paths)).facts
    assert facts["pixel_notes"] == {"brain_window_assumed": 4, "windowed_8_bit_restored": 4}
