"""Which decoder is fastest for each transfer syntax: ``python tests/benchmarks/input/decoders.py``.

Two pictures with the noise of real ones, of the size of a CT slice and of a radiograph; processor
time of one thread, medians of interleaved rounds; values must be equal. What is not installed is
left out. Prints Markdown.
"""

from __future__ import annotations

import importlib
import io
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.pixels import get_decoder, get_encoder
from pydicom.uid import RLELossless

Pixels = np.ndarray[Any, Any]
Decode = Callable[[bytes], Any]

ROUNDS = {"CT 512 x 512": 9, "X-ray 1841 x 1955": 3}
SHAPES = {"CT 512 x 512": (512, 512), "X-ray 1841 x 1955": (1955, 1841)}


def picture(shape: tuple[int, int]) -> Pixels:
    """Return 12 bits: soft shapes, edges and the noise of a detector."""
    down, across = np.mgrid[0 : shape[0], 0 : shape[1]] / max(shape)
    soft = 1200 * np.hypot(down - 0.5, across - 0.5) + 400 * np.sin(9 * down) * np.cos(7 * across)
    noise = np.random.default_rng(7).normal(0, 12, shape)
    return (1500 + soft + 700 * (across > 0.7) + noise).clip(0, 4095).astype(np.uint16)


def with_module(name: str, use: Callable[[Any, bytes], Any]) -> Decode | None:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    return lambda content: use(module, content)


def pillow(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)))


def rle(pixels: Pixels, plugin: str) -> Decode:
    decoder = get_decoder(RLELossless)
    facts = {
        "rows": pixels.shape[0], "columns": pixels.shape[1], "samples_per_pixel": 1,
        "bits_allocated": 16, "bits_stored": 16, "pixel_representation": 0,
        "photometric_interpretation": "MONOCHROME2", "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }  # fmt: skip
    from pydicom.encaps import encapsulate

    return lambda content: decoder.as_array(
        encapsulate([content]), raw=False, decoding_plugin=plugin, **facts
    )[0]


def cases(pixels: Pixels) -> Iterator[tuple[str, bytes, Mapping[str, Decode | None]]]:
    """Yield each transfer syntax with its codestream and decoders."""
    eight = (pixels >> 4).astype(np.uint8)
    yield (
        "JPEG baseline",
        imagecodecs.jpeg8_encode(eight, level=90),
        {
            "imagecodecs": imagecodecs.jpeg8_decode,
            "pillow": pillow,
            "simplejpeg": with_module(
                "simplejpeg", lambda m, c: m.decode_jpeg(c, colorspace="GRAY")[..., 0]
            ),
        },
    )
    yield (
        "JPEG lossless",
        imagecodecs.ljpeg_encode(pixels, bitspersample=16),
        {
            "imagecodecs jpeg8": imagecodecs.jpeg8_decode,
            "imagecodecs ljpeg": imagecodecs.ljpeg_decode,
        },
    )
    yield (
        "JPEG-LS",
        imagecodecs.jpegls_encode(pixels),
        {
            "imagecodecs": imagecodecs.jpegls_decode,
            "pyjpegls": with_module("jpeg_ls", lambda m, c: m.decode(np.frombuffer(c, np.uint8))),
        },
    )
    yield (
        "JPEG 2000",
        imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", level=0),
        {
            "imagecodecs": imagecodecs.jpeg2k_decode,
            "pylibjpeg-openjpeg": with_module("openjpeg", lambda m, c: m.decode(c)),
            "pillow": pillow,
        },
    )
    yield (
        "HTJ2K",
        imagecodecs.htj2k_encode(pixels, reversible=True),
        {
            "imagecodecs htj2k": imagecodecs.htj2k_decode,
            "imagecodecs jpeg2k": imagecodecs.jpeg2k_decode,
            "pylibjpeg-openjpeg": with_module("openjpeg", lambda m, c: m.decode(c)),
        },
    )
    encoded = next(
        get_encoder(RLELossless).iter_encode(
            pixels, rows=pixels.shape[0], columns=pixels.shape[1], samples_per_pixel=1,
            bits_allocated=16, bits_stored=16, pixel_representation=0,
            photometric_interpretation="MONOCHROME2", number_of_frames=1,
        )
    )  # fmt: skip
    yield (
        "RLE",
        encoded,
        {
            "imagecodecs": lambda c: np.frombuffer(
                imagecodecs.dicomrle_decode(c, "<u2"), "<u2"
            ).reshape(pixels.shape),
            "pylibjpeg-rle": rle(pixels, "pylibjpeg"),
            "pydicom": rle(pixels, "pydicom"),
        },
    )


def timed(content: bytes, decoders: Mapping[str, Decode], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each decoder, whose values must be equal."""
    spent: dict[str, list[float]] = {name: [] for name in decoders}
    expected = next(iter(decoders.values()))(content)
    for _ in range(rounds):
        for name, decode in decoders.items():
            started = time.process_time()
            made = decode(content)
            spent[name].append((time.process_time() - started) * 1e3)
            assert np.array_equal(made, expected), name
    return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
    print("| picture | transfer syntax | milliseconds, fastest first |\n| --- | --- | --- |")
    for name, shape in SHAPES.items():
        for syntax, content, known in cases(picture(shape)):
            there = {decoder: use for decoder, use in known.items() if use is not None}
            found = sorted(timed(content, there, ROUNDS[name]).items(), key=lambda one: one[1])
            told = ", ".join(f"{decoder} {spent:.2f}" for decoder, spent in found)
            print(f"| {name} | {syntax} | {told} |", flush=True)


if __name__ == "__main__":
    main()
