"""What each slice of a CT costs in memory: ``python tests/benchmarks/input/memory.py``.

Series of phantoms, or of the slice given with --like, are read and reported as a worker does it,
each in a process of its own; peak of the resident memory above that of a series of ten slices, and
the slope. Prints Markdown.
"""

from __future__ import annotations

import argparse
import gc
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from monai.networks.nets import Classifier
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLosslessSV1

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.decode_pool import DecodePool
from inference.decode_settings import PoolSettings
from inference.heap import keep_freed_memory
from inference.input_spec import InputSpec
from inference.model import load_reader
from inference.objects import DeviceIdentity, object_bytes
from inference.open_source import index_file
from inference.reading import SourceImage
from inference.result_objects import ResultBasis, make_objects
from inference.stored_facts import facts_from_bytes
from inference.windows import BRAIN

SIZE = 512
SERIES = "1.2.826.0.1.3680043.10.1.1"


def plain_header() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Phantom^Slices", "P1", "O"
    dataset.StudyInstanceUID, dataset.Modality = f"{SERIES}.9", "CT"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.45, 0.45], 0.5
    return dataset


def write_series(folder: Path, count: int, compressed: bool, like: Path | None) -> None:
    """Write slices that differ in position and number, all with one picture."""
    dataset = dcmread(like) if like else plain_header()
    down, across = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    inside = np.hypot(down, across) < 0.4
    picture = (inside * (1060 + 300 * (down > 0.1))).astype(np.uint16)
    picture[inside] += np.random.default_rng(1).integers(0, 30, int(inside.sum()), np.uint16)
    dataset.Rows = dataset.Columns = SIZE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 0, 1, -1024
    dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1 if compressed else ExplicitVRLittleEndian
    for keyword in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue"):
        if keyword in dataset:
            delattr(dataset, keyword)
    content = imagecodecs.ljpeg_encode(picture, bitspersample=12)
    dataset.PixelData = encapsulate([content]) if compressed else picture.tobytes()
    dataset["PixelData"].VR = "OB" if compressed else "OW"
    dataset["PixelData"].is_undefined_length = compressed
    dataset.SeriesInstanceUID = SERIES
    for number in range(count):
        uid = f"{SERIES}.{number + 1}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.InstanceNumber = number + 1
        dataset.ImagePositionPatient = [-115.0, -115.0, number * 0.5]
        if "SliceLocation" in dataset:
            dataset.SliceLocation = number * 0.5
        dataset.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)


def tiny_bundle(folder: Path) -> Bundle:
    """Write a bundle whose network costs nothing."""
    torch.manual_seed(7)
    spec = InputSpec("ct_slices", 64, (BRAIN,))
    names = ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
    arguments = {"in_shape": [1, 64, 64], "classes": 6, "channels": [4, 8], "strides": [2, 2]}
    labels = [
        {
            "name": name,
            "code": {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"},
            "site": {"value": "12738006", "scheme": "SCT", "meaning": "Brain"},
            "thresholds": {"low": 0.1, "high": 0.5},
        }
        for name in names
    ]
    write_bundle(
        folder / "slices",
        name="slices",
        version="1.0.0",
        network_def={"_target_": "monai.networks.nets.Classifier", **arguments},
        state_dict=Classifier(**arguments).state_dict(),
        preread={"input": spec.to_dict(), "labels": labels, "suitability": {"min_slices": 3}},
        metadata={"description": "For a measurement"},
        card="# For a measurement\n",
    )
    return open_bundle(folder / "slices")


def read_once(folder: Path, bundle: Bundle, stages: bool) -> None:
    files = sorted(folder.glob("*.dcm"))
    kept = {path: index_file(path).to_bytes() for path in files}
    gc.collect()
    keep_freed_memory()
    reader = load_reader(bundle, "cpu")
    with DecodePool(PoolSettings(1)) as pool:
        reader.decoding = pool

        def images() -> tuple[SourceImage, ...]:
            known = ((n, path, facts_from_bytes(kept[path])) for n, path in enumerate(files))
            return tuple(
                SourceImage(n, f"{SERIES}.{n + 1}", CTImageStorage, "", path, facts)
                for n, path, facts in known
            )

        def report(number: int) -> None:
            reading = reader.read(images()[:number])
            told(f"read {number}", stages)
            made = make_objects(
                ResultBasis(
                    sources=reading.headers,
                    model=bundle.identity,
                    device=DeviceIdentity("PREREAD", "Preread", "Preread", "1", "1"),
                    created_at=datetime.now(UTC),
                    reading=reading,
                )
            )
            told(f"objects {number}", stages)
            for one in made.made:
                object_bytes(one.dataset)
            told(f"bytes {number}", stages)

        report(10)
        print(peak(), flush=True)
        report(len(files))
        print(peak(), flush=True)


def told(what: str, stages: bool) -> None:
    if stages:
        print(f"{what}: {peak()} kB", file=sys.stderr)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[30, 300, 1000, 3000])
    parser.add_argument("--like", type=Path, help="a CT slice whose header the slices have")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        with tempfile.TemporaryDirectory() as folder:
            read_once(asked.read, tiny_bundle(Path(folder)), asked.stages)
        return
    print("| pixels | slices | peak above that of 10 slices, MB | kB for each slice |")
    print("| --- | --- | --- | --- |")
    for compressed in (False, True):
        for count in asked.counts:
            with tempfile.TemporaryDirectory() as folder:
                write_series(Path(folder), count, compressed, asked.like)
                more = ["--stages"] if asked.stages else []
                out = subprocess.run(
                    [sys.executable, __file__, "--read", folder, *more],
                    check=True, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
            first, last = map(int, out.stdout.split())
            name = "JPEG lossless" if compressed else "uncompressed"
            above = last - first
            each = above / (count - 10)
            print(f"| {name} | {count} | {above / 1024:.1f} | {each:.1f} |", flush=True)


if __name__ == "__main__":
    main()
