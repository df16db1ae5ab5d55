"""What decode processes cost and gain: ``python tests/benchmarks/input/pool.py``.

A CT slice and a radiograph in each transfer syntax, decoded here and by a pool: processor time of
the worker's process for each image (what a network has no use of), and images a second of the
whole machine. Medians of interleaved rounds. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

sys.path.insert(0, str(Path(__file__).parent))
from decoders import SHAPES, Pixels, picture

from inference.decode_pool import DecodePool
from inference.decode_settings import PoolSettings
from inference.decode_task import DecodeTask
from inference.heap import keep_freed_memory
from inference.input_spec import InputSpec
from inference.open_source import index_file
from inference.reading import SourceImage

FILM = InputSpec("radiograph", 224)
ROUNDS = 3


def forms(pixels: Pixels) -> Iterator[tuple[str, UID, bytes, int]]:
    """Yield transfer syntaxes with pixels in them, and their bits."""
    eight = (pixels >> 4).astype(np.uint8)
    yield "native", ExplicitVRLittleEndian, pixels.tobytes(), 16
    yield "JPEG baseline", JPEGBaseline8Bit, imagecodecs.jpeg8_encode(eight, level=90), 8
    yield "JPEG lossless", JPEGLosslessSV1, imagecodecs.ljpeg_encode(pixels, bitspersample=12), 16
    yield "JPEG-LS", JPEGLSLossless, imagecodecs.jpegls_encode(pixels), 16
    j2k = imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", level=0, bitspersample=12)
    yield "JPEG 2000", JPEG2000Lossless, j2k, 16
    yield "HTJ2K", HTJ2KLossless, imagecodecs.htj2k_encode(pixels, reversible=True), 16


def written(
    folder: Path, name: str, form: tuple[str, UID, bytes, int], shape: tuple[int, int]
) -> Path:
    label, syntax, content, bits = form
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"1.2.{abs(hash(name)) % 10**9}"
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    stored = 8 if bits == 8 else (16 if label == "HTJ2K" else 12)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, stored, stored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = content if syntax == ExplicitVRLittleEndian else encapsulate([content])
    dataset["PixelData"].VR = "OW"
    path = folder / f"{name}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    keep_freed_memory()
    print(f"{os.cpu_count()} cores, {asked.processes} decode processes\n")
    print(
        "| picture | transfer syntax | here: ms of the worker | pool: ms of the worker | "
        "here: images/s | pool: images/s |\n| --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder, DecodePool(PoolSettings(asked.processes)) as pool:
        here = DecodePool(PoolSettings())
        for name, shape in SHAPES.items():
            for number, form in enumerate(forms(picture(shape))):
                path = written(Path(folder), f"{shape[0]}-{number}", form, shape)
                image = SourceImage(1, "1", "1", str(form[1]), path, index_file(path))
                count = max(6, int(64 * 512 * 512 / (shape[0] * shape[1])))
                spent: dict[str, list[tuple[float, float]]] = {"here": [], "pool": []}
                for once in range(ROUNDS + 1):
                    for which, decoding in (("here", here), ("pool", pool)):
                        wall, own = time.perf_counter(), time.process_time()
                        for _ in decoding.decode(DecodeTask(image, 0, FILM) for _ in range(count)):
                            pass
                        if once:
                            spent[which].append(
                                (
                                    (time.process_time() - own) / count * 1e3,
                                    count / (time.perf_counter() - wall),
                                )
                            )
                told = [
                    f"{statistics.median(one[at] for one in spent[which]):.{2 - at}f}"
                    for at in (0, 1)
                    for which in ("here", "pool")
                ]
                print(f"| {name} | {form[0]} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
