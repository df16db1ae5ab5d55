"""Images to send: built from a seed, and each with UIDs of its own.

An `Image` is a data set encoded once, with the places of its UIDs; every instance that is sent
differs from the next in nothing but those, so that any number of images costs no memory.
"""

from __future__ import annotations

import io
import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_DX = "1.2.840.10008.5.1.4.1.1.1.1"
_CR = "1.2.840.10008.5.1.4.1.1.1"
_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"
UID_LENGTH = 38  # even, so that no padding is needed
_PLACEHOLDERS = {
    "study": "9." + "1" * (UID_LENGTH - 2),
    "series": "9." + "2" * (UID_LENGTH - 2),
    "instance": "9." + "3" * (UID_LENGTH - 2),
    "patient": "4" * 16,
}
_SEED = 20090101


@dataclass(frozen=True, slots=True)
class Uids:
    """The UIDs of one instance, each of 38 characters."""

    study: str
    series: str
    instance: str

    @property
    def patient(self) -> str:
        """Patient ID of 16 characters: each study is of another patient."""
        return self.study[-16:]


@dataclass(frozen=True, slots=True)
class Image:
    """What is sent: `data_set` and then `repeats` times `pixels`.

    Attributes
    ----------
    data_set : bytes
        Encoded in `transfer_syntax`, up to and including the head of the pixel data.
    places : mapping
        Where in `data_set` the values of `Uids` stand.
    per_series : int
        Images that share a series, and a study.
    """

    kind: str
    sop_class: str
    transfer_syntax: str
    data_set: bytes
    pixels: bytes
    repeats: int
    places: Mapping[str, int]
    per_series: int

    @property
    def n_bytes(self) -> int:
        return len(self.data_set) + len(self.pixels) * self.repeats

    def head(self, uids: Uids) -> bytes:
        """Return the data set up to the pixels, with these UIDs."""
        patched = bytearray(self.data_set)
        for name, offset in self.places.items():
            value = getattr(uids, name).encode()
            patched[offset : offset + len(value)] = value
        return bytes(patched)


class UidSource:
    """UIDs that no other source gives, derived as PS3.5 Annex B.2 has it from an integer."""

    def __init__(self) -> None:
        self._run = 10**19 + secrets.randbelow(10**19)
        self._numbers = itertools.count(1)  # its next() is atomic

    def one(self) -> str:
        return f"2.25.{self._run:020d}{next(self._numbers):013d}"

    def instances(self, per_series: int) -> Iterator[Uids]:
        """Yield UIDs of instances for ever, with a new study after each `per_series`."""
        while True:
            study, series = self.one(), self.one()
            for _ in range(per_series):
                yield Uids(study, series, self.one())


def build(kind: str) -> Image:
    """Return one of `KINDS`."""
    return {"CT": _ct, "DX": _dx, "small": _small, "multiframe": _multi_frame}[kind]()


KINDS = ("CT", "DX", "small", "multiframe")


def _ct() -> Image:
    # 537 KB with a head of 13 KB, as CT images of today have with their private elements.
    dataset = _dataset(_CT, "CT", (512, 512), 16)
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.SliceThickness = "1"
    dataset.PixelSpacing = ["0.7", "0.7"]
    dataset.ImagePositionPatient = ["-180", "-180", "0"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.RescaleIntercept, dataset.RescaleSlope = "-1024", "1"
    block = dataset.private_block(0x0029, "PREREAD BENCHMARK", create=True)
    block.add_new(0x10, "OB", _noise(12_000, 8).tobytes())
    return _encode("CT", dataset, _noise(512 * 512, 12).tobytes(), per_series=250)


def _dx() -> Image:
    dataset = _dataset(_DX, "DX", (2500, 2048), 16)
    dataset.BodyPartExamined = "HAND"
    return _encode("DX", dataset, _noise(2500 * 2048, 14).tobytes(), per_series=2)


def _small() -> Image:
    rows, columns = 256, 256
    dataset = _dataset(_CR, "CR", (rows, columns), 8)
    # The mixed load has these routed to a model.
    dataset.BodyPartExamined = "CHEST"
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    pixels = encapsulate([_jpeg(rows, columns)])
    return _encode("small", dataset, pixels, per_series=2, syntax=JPEG_BASELINE)


def _multi_frame() -> Image:
    frames, side = 1000, 512
    dataset = _dataset(_MULTI_FRAME, "OT", (side, side), 16)
    dataset.NumberOfFrames = frames
    frame = _noise(side * side, 12).tobytes()
    return _encode("multiframe", dataset, frame, per_series=1, repeats=frames)


def _dataset(sop_class: str, modality: str, shape: tuple[int, int], bits: int) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = _PLACEHOLDERS["instance"]
    dataset.StudyDate = dataset.SeriesDate = "20090101"
    dataset.StudyTime = dataset.SeriesTime = "120000"
    dataset.AccessionNumber = "BENCHMARK"
    dataset.Modality = modality
    dataset.Manufacturer = "PHANTOM"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = dataset.SeriesDescription = "RECEIVE BENCHMARK"
    dataset.PatientName = "PHANTOM^BENCHMARK"
    dataset.PatientID = _PLACEHOLDERS["patient"]
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyInstanceUID = _PLACEHOLDERS["study"]
    dataset.SeriesInstanceUID = _PLACEHOLDERS["series"]
    dataset.StudyID = "1"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    return dataset


def _encode(
    kind: str,
    dataset: Dataset,
    pixels: bytes,
    *,
    per_series: int,
    repeats: int = 1,
    syntax: str = EXPLICIT_LITTLE,
) -> Image:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, dataset)
    is_encapsulated = syntax != EXPLICIT_LITTLE
    length = 0xFFFFFFFF if is_encapsulated else len(pixels) * repeats
    vr = b"OB" if is_encapsulated else b"OW"
    head = out.getvalue() + b"\xe0\x7f\x10\x00" + vr + b"\0\0" + length.to_bytes(4, "little")
    if is_encapsulated:
        pixels += b"\xfe\xff\xdd\xe0\0\0\0\0"
    places = {name: head.index(value.encode()) for name, value in _PLACEHOLDERS.items()}
    return Image(kind, str(dataset.SOPClassUID), syntax, head, pixels, repeats, places, per_series)


def _noise(n: int, bits: int) -> np.ndarray[tuple[int], np.dtype[np.uint8 | np.uint16]]:
    values = np.random.default_rng(_SEED).integers(0, 1 << bits, n)
    return values.astype(np.uint8 if bits <= 8 else np.dtype("<u2"))


def _jpeg(rows: int, columns: int) -> bytes:
    """Return a JPEG of about 22 KB: noise on a slope, so that it does not shrink to nothing."""
    noise = np.random.default_rng(_SEED).normal(0, 24, (rows, columns))
    slope = np.linspace(40, 210, columns)[None, :]
    picture = Picture.fromarray(np.clip(slope + noise, 0, 255).astype(np.uint8))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=72)
    return out.getvalue()


def write_files(image: Image, folder: Path, n: int, uids: UidSource) -> None:
    """Write `n` images as DICOM files (PS3.10 Section 7.1)."""
    folder.mkdir(parents=True)
    source = uids.instances(image.per_series)
    for number in range(n):
        one = next(source)
        with (folder / f"{number:05d}.dcm").open("wb") as out:
            out.write(_file_head(image, one.instance) + image.head(one))
            for _ in range(image.repeats):
                out.write(image.pixels)


def _file_head(image: Image, sop_instance_uid: str) -> bytes:
    def element(number: int, vr: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        length = (
            b"\0\0" + len(value).to_bytes(4, "little")
            if vr == b"OB"
            else len(value).to_bytes(2, "little")
        )
        return b"\x02\x00" + number.to_bytes(2, "little") + vr + length + value

    meta = (
        element(0x01, b"OB", b"\0\1")
        + element(0x02, b"UI", image.sop_class.encode())
        + element(0x03, b"UI", sop_instance_uid.encode())
        + element(0x10, b"UI", image.transfer_syntax.encode())
        + element(0x12, b"UI", b"2.25.1")
    )
    return bytes(128) + b"DICM" + element(0x00, b"UL", len(meta).to_bytes(4, "little")) + meta
