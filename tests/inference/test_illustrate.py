"""What a person is shown of a reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from inference.bundle import Bundle
from inference.display import pixel_aspect, show_radiograph
from inference.errors import NotAnalysableError
from inference.illustrate import film_views, slice_views, window_of
from inference.input_spec import InputSpec
from inference.model import load_reader
from inference.pixels import radiograph_values
from inference.reading import NotAnalysed, SourceImage, Thresholds
from inference.saliency import Saliency

Sources = Callable[[Iterable[Path]], list[SourceImage]]
Write = Callable[..., Path]
FILM = InputSpec("radiograph", 64)


@pytest.fixture
def films(write_image: Write, sources: Sources) -> list[SourceImage]:
    rng = np.random.default_rng(4)
    return sources(
        write_image(
            rng.integers(0, 4096, (100, 90)).astype(np.uint16),
            Modality="DX",
            BitsStored=12,
            InstanceNumber=number,
            ImagerPixelSpacing=[0.3, 0.2],
        )
        for number in range(6)
    )


@pytest.fixture
def head(write_image: Write, sources: Sources) -> list[SourceImage]:
    rng = np.random.default_rng(11)
    return sources(
        write_image(
            rng.integers(-100, 200, (64, 80)).astype(np.int16),
            BodyPartExamined="HEAD",
            InstanceNumber=number,
            ImagePositionPatient=[0, 0, 5.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[0.5, 0.5],
        )
        for number in range(10)
    )


def always(bundle: Bundle, low: float, high: float) -> Bundle:
    return bundle.with_thresholds({label.name: Thresholds(low, high) for label in bundle.labels})


def test_a_film_is_shown_with_where_the_model_looked(
    chest_bundle: Bundle, films: list[SourceImage]
) -> None:
    reading = load_reader(always(chest_bundle, 0.0, 0.0), "cpu").read(films)
    assert len(reading.illustrations) == 4
    probability = {f.sop_instance_uid: f.probability for f in reading.findings}
    shown = [probability[one.sop_instance_uid] for one in reading.illustrations]
    assert shown == sorted(probability.values(), reverse=True)[:4]
    for one in reading.illustrations:
        assert one.pixels.shape == (100, 90)
        assert one.pixels.dtype == np.uint8
        assert one.labels == ("pneumothorax",)
        assert one.pixel_aspect == pytest.approx(1.5)
        assert one.position_mm is None
        assert one.saliency is not None
        # It covers the picture: the padding of the input of 64 x 64 is cut away.
        assert one.saliency.shape == (100, 90)
        assert 0.0 <= one.saliency.min() <= one.saliency.max() <= 1.0


def test_a_negative_film_is_shown_without_labels(
    chest_bundle: Bundle, films: list[SourceImage]
) -> None:
    reading = load_reader(always(chest_bundle, 1.0, 1.0), "cpu").read(films[:1])
    (only,) = reading.illustrations
    assert only.labels == ()
    assert only.saliency is None
    assert only.pixels.std() > 20


def test_key_slices_are_shown_and_a_negative_series_by_one_slice(
    ct_bundle: Bundle, head: list[SourceImage]
) -> None:
    positive = load_reader(always(ct_bundle, 0.0, 0.0), "cpu").read(head)
    assert 1 <= len(positive.illustrations) <= 6
    keys = {uid for f in positive.findings for uid in f.key_sop_instance_uids}
    first = next(f for f in positive.findings if f.label.name == "any").key_sop_instance_uids[0]
    assert positive.illustrations[0].sop_instance_uid == first
    heights = {image.sop_instance_uid: 5.0 * n for n, image in enumerate(head)}
    for one in positive.illustrations:
        assert one.sop_instance_uid in keys
        assert one.labels
        assert one.saliency is not None
        assert one.saliency.shape == (64, 80)
        assert one.position_mm == heights[one.sop_instance_uid]
        assert one.window in ("brain 40/80", "subdural 80/200")
    negative = load_reader(always(ct_bundle, 1.0, 1.0), "cpu").read(head)
    (only,) = negative.illustrations
    assert (only.labels, only.saliency, only.window) == ((), None, "brain 40/80")
    hu = dcmread(
        next(i.path for i in head if i.sop_instance_uid == only.sop_instance_uid)
    ).pixel_array
    assert (only.pixels[hu <= 0] == 0).all()
    assert (only.pixels[hu >= 80] == 255).all()


def test_blood_beside_bone_is_shown_under_the_wide_window(ct_bundle: Bundle) -> None:
    at = {label.name: column for column, label in enumerate(ct_bundle.labels)}
    for names, window in (
        (("subdural",), "subdural"),
        (("any", "epidural"), "subdural"),
        (("any", "subdural", "subarachnoid"), "brain"),
        (("any",), "brain"),
        ((), "brain"),
    ):
        assert window_of(ct_bundle, [at[name] for name in names]).name == window


def test_no_label_crowds_the_best_slice_of_another_out(ct_bundle: Bundle) -> None:
    bundle = always(ct_bundle, 0.3, 0.5)
    probabilities = np.zeros((60, 6))
    for column in range(6):  # every label in its own three slices
        probabilities[column * 10 + 2 : column * 10 + 5, column] = (0.6, 0.9, 0.7)
    views = slice_views(bundle, np.arange(60) * 20.0, probabilities)
    assert [view.row for view in views] == [3, 13, 23, 33, 43, 53]
    assert [view.columns for view in views] == [(column,) for column in range(6)]
    assert [view.looked for view in views] == list(range(6))


def test_of_several_frames_the_one_that_shows_it_is_taken(chest_bundle: Bundle) -> None:
    views = film_views(chest_bundle, ["a", "a", "a", "b"], np.array([[0.2], [0.9], [0.3], [0.4]]))
    assert [(view.row, view.columns) for view in views] == [(1, (0,)), (3, (0,))]


def test_the_same_images_are_shown_the_same_way_in_any_order(
    ct_bundle: Bundle, head: list[SourceImage]
) -> None:
    reader = load_reader(always(ct_bundle, 0.0, 0.0), "cpu")
    one, other = reader.read(head), reader.read(head[::-1])
    for first, second in zip(one.illustrations, other.illustrations, strict=True):
        assert (first.sop_instance_uid, first.labels) == (second.sop_instance_uid, second.labels)
        assert first.pixels.tobytes() == second.pixels.tobytes()
        assert first.saliency is not None
        assert second.saliency is not None
        assert first.saliency.tobytes() == second.saliency.tobytes()


@pytest.mark.parametrize("kind", [NotAnalysableError, ValueError, MemoryError, IndexError])
def test_a_picture_that_fails_does_not_lose_the_findings(
    ct_bundle: Bundle, head: list[SourceImage], monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    reader = load_reader(always(ct_bundle, 0.0, 0.0), "cpu")
    whole = reader.read(head)

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory left")

    with monkeypatch.context() as patched:
        patched.setattr(Saliency, "of", no_memory)
        dark = reader.read(head)
    assert dark.findings == whole.findings
    assert [one.saliency for one in dark.illustrations] == [None] * len(whole.illustrations)
    failed = dark.facts["illustration_failed"]
    assert set(failed.values()) == {"OutOfMemoryError"}  # type: ignore[attr-defined]

    def unreadable(*_: object) -> None:
        if kind is NotAnalysableError:
            raise NotAnalysableError(NotAnalysed.UNDECODABLE, "the stored file is gone")
        raise kind("odd")

    monkeypatch.setattr(reader, "show", unreadable)
    blind = reader.read(head)
    assert blind.findings == whole.findings
    assert blind.illustrations == ()
    assert json.loads(json.dumps(dict(blind.facts)))["illustration_failed"]


def _film(write_image: Write, pixels: np.ndarray[Any, Any], **elements: Any) -> Dataset:
    return dcmread(write_image(pixels.astype(np.uint16), Modality="DX", **elements))


def _shown(dataset: Dataset, spec: InputSpec = FILM) -> np.ndarray[Any, Any]:
    return show_radiograph(radiograph_values(dataset), dataset, 0, spec)


RAMP = np.add.outer(np.arange(100) * 20, np.arange(100) * 20)


def test_the_window_of_the_header_is_used_if_it_shows_something(write_image: Write) -> None:
    windowed = _shown(_film(write_image, RAMP, WindowCenter=[2000, 5], WindowWidth=[2000, 9]))
    assert (windowed[RAMP <= 1000] == 0).all()
    assert (windowed[RAMP >= 3001] == 255).all()
    assert windowed[50, 50] == pytest.approx(128, abs=2)
    plain = _shown(_film(write_image, RAMP))
    for nonsense in (
        {"WindowCenter": 60_000, "WindowWidth": 10},
        {"WindowCenter": 2000, "WindowWidth": 0},
        {"WindowCenter": 2000},
        {"WindowCenter": 2000, "WindowWidth": 1e6},
    ):
        assert np.array_equal(_shown(_film(write_image, RAMP, **nonsense)), plain)


def test_a_voi_lut_of_the_header_is_used(write_image: Write) -> None:
    lut = Dataset()
    lut.LUTDescriptor = [4096, 0, 8]
    curve = (255 * np.sqrt(np.linspace(0, 1, 4096))).astype(np.uint16)
    lut.LUTData = [int(value) for value in curve]
    dataset = _film(write_image, RAMP)
    dataset.VOILUTSequence = [lut]
    dataset["VOILUTSequence"].value[0]["LUTDescriptor"].VR = "US"
    dataset["VOILUTSequence"].value[0]["LUTData"].VR = "US"
    assert np.abs(_shown(dataset).astype(int) - curve[RAMP].astype(int)).max() <= 1


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1500, "WindowWidth": 2500}])
def test_monochrome1_is_turned_to_bone_white(write_image: Write, window: dict[str, int]) -> None:
    pixels = np.clip(RAMP, 0, 4095)
    upright = _shown(_film(write_image, pixels, **window))
    negative = pixels.max() - pixels
    if window:
        window = {**window, "WindowCenter": int(pixels.max()) - window["WindowCenter"] + 1}
    turned = _shown(_film(write_image, negative, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.abs(upright.astype(int) - turned.astype(int)).max() <= 1


def test_a_polarity_that_was_corrected_is_shown_corrected(shared_data: Path) -> None:
    folder = shared_data / "cxr_siim_format"
    spec = InputSpec("radiograph", 64, polarity="chest")
    original, twin = (
        _shown(dcmread(path), spec)
        for path in (*folder.glob("1.2.*.dcm"), folder / "Fake_MONOHR1.dcm")
    )
    assert np.abs(original.astype(int) - twin.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("elements", "aspect"),
    [
        ({"PixelSpacing": [0.8, 0.4]}, 2.0),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, 0.5),
        ({"PixelAspectRatio": [3, 2]}, 1.5),
        ({"PixelSpacing": [0.0, 0.4]}, 1.0),
        ({"PixelSpacing": [400.0, 0.4]}, 1.0),
        ({}, 1.0),
    ],
)
def test_the_shape_of_a_pixel(elements: dict[str, Any], aspect: float) -> None:
    dataset = Dataset()
    dataset.SOPInstanceUID = generate_uid()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    assert pixel_aspect(dataset, 0) == aspect
