"""Readers from files to findings, on real images where they are and made ones."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.uid import generate_uid

from inference import radiograph_reader
from inference.bundle import Bundle, open_bundle
from inference.decode_task import DecodeTask
from inference.errors import BundleError, InferenceError, NotAnalysableError
from inference.model import load_reader
from inference.pixels import ModalityImage
from inference.reading import NotAnalysed, Reading, Scope, SourceImage
from inference.training.phantoms.files import write_chest

Sources = Callable[[Iterable[Path]], list[SourceImage]]
Sample = Callable[[str], Path]
Write = Callable[..., Path]


@pytest.fixture
def head(write_image: Write, sources: Sources) -> list[SourceImage]:
    """Return a made series of ten axial slices, 5 mm apart."""
    rng = np.random.default_rng(11)
    paths = [
        write_image(
            rng.integers(-100, 200, (64, 64)).astype(np.int16),
            BodyPartExamined="HEAD",
            InstanceNumber=number,
            ImagePositionPatient=[0, 0, 5.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            SliceThickness=5,
        )
        for number in range(10)
    ]
    return sources(paths)


def probabilities(reading: Reading) -> dict[tuple[str, str | None], float]:
    return {(f.label.name, f.sop_instance_uid): f.probability for f in reading.findings}


def refused(bundle: Bundle, images: list[SourceImage]) -> NotAnalysableError:
    with pytest.raises(NotAnalysableError) as refusal:
        load_reader(bundle, "cpu").read(images)
    return refusal.value


def test_order_and_batch_do_not_matter(ct_bundle: Bundle, head: list[SourceImage]) -> None:
    expected = load_reader(ct_bundle, "cpu").read(head)
    shuffled = random.Random(5).sample(head, len(head))
    assert load_reader(ct_bundle, "cpu").read(shuffled) == expected
    for size in (1, 3, 64):
        other = load_reader(ct_bundle, "cpu", batch_size=size).read(shuffled)
        assert probabilities(other) == pytest.approx(probabilities(expected), abs=1e-5)
        assert other.used_sop_instance_uids == expected.used_sop_instance_uids


def test_a_reading_can_be_stored_as_json(ct_bundle: Bundle, head: list[SourceImage]) -> None:
    reading = load_reader(ct_bundle, "cpu").read(head)
    facts = json.loads(json.dumps(dict(reading.facts), allow_nan=False))
    assert facts["spacing_mm"] == 5.0
    assert reading.used_sop_instance_uids == tuple(one.sop_instance_uid for one in head)
    assert sum(f.scope is Scope.SERIES for f in reading.findings) == 6


def test_headers_go_on_as_they_came(
    ct_bundle: Bundle, write_image: Write, sources: Sources, tmp_path: Path
) -> None:
    """The gate looks at the name, and still reports repeat its very bytes."""
    # Legal, and not what pydicom writes: it escapes to ASCII where ASCII holds already.
    name = b"\x1b(BYamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    paths = []
    for number in range(6):
        path = write_image(
            np.full((64, 64), 40 + number, dtype=np.int16) * (np.arange(64) > 20).astype(np.int16),
            PatientName="x" * len(name),
            SpecificCharacterSet=["", "ISO 2022 IR 87"],
            BodyPartExamined="HEAD",
            ImagePositionPatient=[0.0, 0.0, 5.0 * number],
            ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        )
        path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
        paths.append(path)
    looks = replace(ct_bundle.suitability, phantom_words=("PHANTOM",))
    images = sources(paths)
    reading = load_reader(replace(ct_bundle, suitability=looks), "cpu").read(images[::-1])
    assert [str(header.SOPInstanceUID) for header in reading.headers] == [
        image.sop_instance_uid for image in images
    ]
    for header, path in zip(reading.headers, paths, strict=True):
        raw = header.get_item("PatientName")
        assert isinstance(raw, RawDataElement)
        assert raw.value is not None and raw.value.rstrip() == name  # padded to even length
        stored = dcmread(path, stop_before_pixels=True)
        assert header.PatientName == stored.PatientName == "Yamada^Tarou=山田^太郎"
        assert header == stored
        assert "PixelData" not in header


def test_memory_does_not_grow_with_the_series(ct_bundle: Bundle, head: list[SourceImage]) -> None:
    decoded = load_reader(ct_bundle, "cpu", batch_size=4).decode(head)
    assert [len(batch.tensor) for batch in decoded.batches] == [4, 4, 2]


def test_a_localizer_is_set_aside_and_recorded(
    ct_bundle: Bundle, head: list[SourceImage], write_image: Write, sources: Sources
) -> None:
    scout = write_image(
        np.zeros((64, 64), dtype=np.int16), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    (image,) = sources([scout])
    reading = load_reader(ct_bundle, "cpu").read([image, *head])
    assert reading.facts["set_aside"] == {image.sop_instance_uid: "localizer"}
    assert image.sop_instance_uid not in reading.used_sop_instance_uids
    alone = refused(ct_bundle, [image])
    assert alone.code == NotAnalysed.TOO_FEW_SLICES


def test_a_missing_slice_and_a_damaged_one_are_coded(
    ct_bundle: Bundle, head: list[SourceImage]
) -> None:
    assert refused(ct_bundle, head[:4] + head[5:]).code == NotAnalysed.MISSING_SLICES
    damaged = head[6].path
    damaged.write_bytes(damaged.read_bytes()[:-200])
    assert refused(ct_bundle, head).code == NotAnalysed.UNDECODABLE
    assert refused(ct_bundle, []).code == NotAnalysed.NOT_AN_IMAGE


def test_images_of_another_kind_are_refused(
    ct_bundle: Bundle, chest_bundle: Bundle, sample: Sample, sources: Sources
) -> None:
    (chest,) = sources([sample("RG1_UNCR.dcm")])
    (hand,) = sources([sample("RG3_UNCR.dcm")])
    (picture,) = sources([sample("SC_rgb.dcm")])
    assert refused(ct_bundle, [chest]).code == NotAnalysed.WRONG_MODALITY
    assert refused(chest_bundle, [hand]).code == NotAnalysed.WRONG_BODY_PART
    assert refused(chest_bundle, [picture]).code == NotAnalysed.WRONG_MODALITY


@pytest.mark.parametrize("fault", ["blank", "cut"])
def test_a_film_that_cannot_be_read_loses_none_of_the_others(
    chest_bundle: Bundle, sources: Sources, tmp_path: Path, fault: str
) -> None:
    paths = [write_chest(tmp_path / str(seed), seed, size=128) for seed in (1, 2, 3)]
    code = "unsupported_pixels" if fault == "blank" else "undecodable"
    reader = load_reader(chest_bundle, "cpu")
    for broken in (paths[:1], paths):
        for path in broken:
            dataset = dcmread(path)
            length = len(dataset.PixelData)
            dataset.PixelData = bytes(length if fault == "blank" else length // 2)
            dataset.save_as(path)
        if broken == paths:
            with pytest.raises(NotAnalysableError) as refused:
                reader.read(sources(paths))
            assert refused.value.code == code
            continue
        images = sources(paths)
        reading = reader.read(images)
        assert set(reading.used_sop_instance_uids) == {one.sop_instance_uid for one in images[1:]}
        assert reading.facts["set_aside"] == {images[0].sop_instance_uid: code}
        assert len(reading.headers) == 2


def test_films_of_a_series_are_decoded_once(
    chest_bundle: Bundle, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sources([write_chest(tmp_path / str(seed), seed, size=128) for seed in (1, 2, 3)])
    reader = load_reader(chest_bundle, "cpu")
    decode, asked = reader.decoding.decode, list[str]()

    def counted(tasks: Iterable[DecodeTask]) -> Iterator[ModalityImage | NotAnalysableError]:
        tasks = list(tasks)
        asked.extend(task.image.sop_instance_uid for task in tasks)
        return decode(tasks)

    monkeypatch.setattr(reader.decoding, "decode", counted)
    once = reader.read(images)
    assert sorted(asked) == sorted(image.sop_instance_uid for image in images)
    # Room for the input of one film and not for that of two: the others are decoded again.
    one = reader.decode(images[:1])
    kept = sum(batch.tensor.nbytes for batch in one.batches)
    monkeypatch.setattr(radiograph_reader, "_KEPT_BYTES", int(1.5 * kept))
    asked.clear()
    again = reader.read(images)
    assert len(asked) == 5
    assert (again.findings, again.facts) == (once.findings, once.facts)


def test_what_was_kept_of_a_film_that_is_refused_makes_room_for_others(
    chest_bundle: Bundle, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (write_chest(tmp_path / str(seed), seed, size=128) for seed in (1, 2))
    dataset = dcmread(first)
    dataset.PixelData += bytes(len(dataset.PixelData))  # its second frame is blank
    dataset.NumberOfFrames = 2
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
        "1.2.3"  # looked at first
    )
    dataset.save_as(first)
    images = sources([first, second])
    reader = load_reader(chest_bundle, "cpu")
    decode, asked = reader.decoding.decode, list[str]()

    def counted(tasks: Iterable[DecodeTask]) -> Iterator[ModalityImage | NotAnalysableError]:
        tasks = list(tasks)
        asked.extend(task.image.sop_instance_uid for task in tasks)
        return decode(tasks)

    kept = sum(batch.tensor.nbytes for batch in reader.decode(images[1:]).batches)
    monkeypatch.setattr(reader.decoding, "decode", counted)
    monkeypatch.setattr(radiograph_reader, "_KEPT_BYTES", int(1.5 * kept))
    reading = reader.read(images)
    assert reading.facts["set_aside"] == {"1.2.3": "unsupported_pixels"}
    assert reading.used_sop_instance_uids == (images[1].sop_instance_uid,)
    assert asked == ["1.2.3", "1.2.3", images[1].sop_instance_uid]


def test_a_lateral_beside_a_frontal_film_is_set_aside(
    chest_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    pixels = np.random.default_rng(2).integers(0, 4096, (100, 90)).astype(np.uint16)
    frontal, lateral = sources(
        write_image(pixels, Modality="DX", BitsStored=12, ViewPosition=view)
        for view in ("PA", "LL")
    )
    reading = load_reader(chest_bundle, "cpu").read([frontal, lateral])
    (finding,) = reading.findings
    assert finding.scope is Scope.IMAGE
    assert finding.sop_instance_uid == frontal.sop_instance_uid
    assert reading.facts["set_aside"] == {lateral.sop_instance_uid: "wrong_view"}
    assert refused(chest_bundle, [lateral]).code == NotAnalysed.WRONG_VIEW


def test_of_several_reasons_the_most_frequent_one_is_said_and_all_are_counted(
    chest_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    pixels = np.random.default_rng(2).integers(0, 4096, (100, 90)).astype(np.uint16)
    images = sources(
        [
            *(write_image(pixels, Modality="DX", ViewPosition="LL") for _ in range(2)),
            *(write_image(pixels, Modality="DX", BodyPartExamined="HAND") for _ in range(2)),
            write_image(pixels, Modality="DX", QualityControlSubject="YES"),
        ]
    )
    refusal = refused(chest_bundle, images)
    assert refusal.code == NotAnalysed.WRONG_VIEW, "the first in the list of two that are as many"
    assert refusal.reason.endswith(
        "(of 5 images: 2 wrong_view, 2 wrong_body_part, 1 not_a_patient)"
    )
    assert refusal.facts is not None
    assert len(dict(refusal.facts)["set_aside"]) == 5  # type: ignore[arg-type]
    assert refused(chest_bundle, images[::-1]).reason == refusal.reason


def test_lossless_forms_of_a_real_chest_have_one_probability(
    chest_bundle: Bundle, sample: Sample, sources: Sources
) -> None:
    reader = load_reader(chest_bundle, "cpu")
    for pair in (("UNCR", "J2KR"), ("UNCI", "J2KI")):
        one, other = (
            reader.read(sources([sample(f"RG1_{form}.dcm")])).findings[0].probability
            for form in pair
        )
        assert one == other


def test_the_monochrome1_twin_has_the_probability_of_its_original(
    chest_bundle: Bundle, shared_data: Path, sources: Sources, tmp_path: Path
) -> None:
    folder = shared_data / "cxr_siim_format"
    twin = dcmread(folder / "Fake_MONOHR1.dcm")
    twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    twin.save_as(tmp_path / "twin.dcm")
    reader = load_reader(chest_bundle, "cpu")
    original, inverted = (
        reader.read(sources([path])) for path in (*folder.glob("1.2.*.dcm"), tmp_path / "twin.dcm")
    )
    assert original.findings[0].probability == inverted.findings[0].probability
    assert inverted.facts["pixel_notes"]["polarity_corrected"] == 1  # type: ignore[index]


def test_a_real_head_is_read_in_any_order(
    ct_bundle: Bundle, shared_data: Path, sources: Sources
) -> None:
    images = sources(sorted((shared_data / "head_ct_ge").glob("*.dcm")))
    reader = load_reader(ct_bundle, "cpu")
    reading = reader.read(images)
    assert reader.read(random.Random(9).sample(images, len(images))) == reading
    assert len(reading.used_sop_instance_uids) == 28
    assert reading.facts["pixel_notes"] == {"padding_replaced": 28}


def test_an_enhanced_ct_is_read_frame_by_frame(
    ct_bundle: Bundle, sample: Sample, sources: Sources, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(ct_bundle.path, tmp_path / "lenient"))
    _edit(path / "configs" / "preread.json", lambda preread: preread.pop("suitability"))
    reading = load_reader(open_bundle(path), "cpu").read(sources([sample("eCT_Supplemental.dcm")]))
    assert reading.facts["slices"] == 2
    assert len(reading.used_sop_instance_uids) == 1


@pytest.mark.parametrize("pixels", [np.zeros((256, 256)), np.full((256, 256), 1234)])
def test_a_radiograph_without_contrast_is_refused(
    chest_bundle: Bundle, write_image: Write, sources: Sources, pixels: np.ndarray
) -> None:
    path = write_image(pixels.astype(np.uint16), Modality="DX")
    assert refused(chest_bundle, sources([path])).code == NotAnalysed.UNSUPPORTED_PIXELS
    pixels[:2, :2] = 4000  # a letter that was burned in shows no chest
    path = write_image(pixels.astype(np.uint16), Modality="DX")
    assert refused(chest_bundle, sources([path])).code == NotAnalysed.UNSUPPORTED_PIXELS


def test_a_series_is_judged_by_all_its_slices(
    ct_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    def series(contrast: int) -> list[SourceImage]:
        paths = []
        for number in range(10):
            pixels = np.full((64, 64), number, dtype=np.int16)
            pixels[0, 0] += contrast if number == 9 else 0
            position = [0, 0, 5.0 * number]
            paths.append(
                write_image(
                    pixels,
                    ImagePositionPatient=position,
                    ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                )
            )
        return sources(paths)

    assert refused(ct_bundle, series(0)).code == NotAnalysed.UNSUPPORTED_PIXELS
    assert len(load_reader(ct_bundle, "cpu").read(series(1)).used_sop_instance_uids) == 10


def test_a_damaged_optional_attribute_is_absent_and_recorded_without_its_value(
    chest_bundle: Bundle, ct_bundle: Bundle, write_image: Write, sources: Sources, head: Any
) -> None:
    pixels = np.random.default_rng(2).integers(0, 4096, (100, 90)).astype(np.uint16)
    film = write_image(pixels, Modality="DX", BitsStored=12, InstanceNumber="12345678")
    plain = load_reader(chest_bundle, "cpu").read(sources([film]))
    film.write_bytes(film.read_bytes().replace(b"12345678", b"SECRETNA"))
    reading = load_reader(chest_bundle, "cpu").read(sources([film]))
    assert reading.findings == plain.findings
    assert reading.facts["damaged_attributes"] == {"InstanceNumber": 1}
    damaged = head[3].path
    content = damaged.read_bytes()
    place = content.index(b"\x18\x00\x50\x00DS") + 8
    damaged.write_bytes(content[:place] + b"x" + content[place + 1 :])
    reading = load_reader(ct_bundle, "cpu").read(head)
    assert reading.facts["damaged_attributes"] == {"SliceThickness": 1}


@pytest.fixture(scope="module")
def small_film(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Path:
    """Return a real radiograph's header around few pixels."""
    dataset = dcmread(sample("RG1_UNCR.dcm"))
    pixels = np.add.outer(np.arange(72), np.arange(80)).astype(np.uint16)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.PixelData = 16, pixels.tobytes()
    path = tmp_path_factory.mktemp("films") / "film.dcm"
    dataset.save_as(path)
    return path


_ODD = (b"SQ", b"UN", b"OB", b"AT", b"US", b"IS", b"DS", b"FD", b"UV", b"PN", b"ZZ", b"CS")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["ct", "film"])
def test_a_damaged_header_gives_a_reading_or_a_coded_reason(
    kind: str,
    ct_bundle: Bundle,
    chest_bundle: Bundle,
    sample: Sample,
    small_film: Path,
    tmp_path: Path,
) -> None:
    """Some thousand headers with a few bytes changed, or the VR of an element."""
    original = sample("CT_small.dcm") if kind == "ct" else small_film
    bundle = _lenient(ct_bundle if kind == "ct" else chest_bundle, tmp_path)
    reader = load_reader(bundle, "cpu")
    content = original.read_bytes()
    header = content.index(b"\xe0\x7f\x10\x00") + 12
    places = [i for i in range(132, header) if content[i : i + 2] in (*_ODD, b"LO")]
    path, chance = tmp_path / "damaged.dcm", random.Random(3)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(700):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            if chance.random() < 0.3:
                place = chance.choice(places)
                damaged[place : place + 2] = chance.choice(_ODD)
            else:
                damaged[chance.randrange(132, header)] = chance.choice(
                    (0, 1, 4, 0x41, 0x5C, 0xFE, 0xFF, chance.randrange(256))
                )
        path.write_bytes(damaged)
        try:
            reader.read([SourceImage(1, "1.2.3", "1.2", "1.2", path)])
            outcomes["read"] += 1
        except InferenceError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes


def _lenient(bundle: Bundle, folder: Path) -> Bundle:
    path = Path(shutil.copytree(bundle.path, folder / "lenient"))
    _edit(path / "configs" / "preread.json", lambda preread: preread.pop("suitability"))
    return open_bundle(path)


def test_labels_that_the_network_does_not_have_are_an_error(
    ct_bundle: Bundle, head: list[SourceImage], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(ct_bundle.path, tmp_path / "wrong"))
    _edit(path / "configs" / "preread.json", lambda p: p["labels"][0].update(output=6))
    with pytest.raises(BundleError, match="the labels need 7"):
        load_reader(open_bundle(path), "cpu").read(head)


def test_a_gpu_that_is_not_there_is_an_error(ct_bundle: Bundle) -> None:
    with pytest.raises(InferenceError, match="torch sees"):
        load_reader(ct_bundle, f"cuda:{torch.cuda.device_count() if _has_gpu() else 0}")


def _has_gpu() -> bool:
    return torch.cuda.is_available()


def _edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
