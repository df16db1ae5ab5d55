"""What was written down of a file gives the same values, findings of the gate and places as it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, config
from pydicom.data import get_testdata_files

from inference.criteria import Criteria
from inference.decoder_table import DecodingError
from inference.decoders import decode_frame
from inference.errors import NotAnalysableError
from inference.image_file import frame_count, open_image
from inference.open_source import index_file, open_source
from inference.pixels import hounsfield_values, radiograph_values
from inference.reading import SourceImage
from inference.stored_facts import facts_from_bytes
from inference.suitability import check_image
from inference.volume import slices_of

BESIDE = Path(__file__).parents[3] / "shared" / "data"
SHARED = Path(os.environ.get("PREREAD_SHARED_DATA", BESIDE))


def files() -> list[Path]:
    """Every file of pydicom and pydicom-data that is there, and the real ones."""
    found = {Path(one) for one in get_testdata_files() if Path(one).is_file()}
    found |= {one for one in SHARED.rglob("*") if one.suffix.lower() in (".dcm", "")}
    return sorted(one for one in found if one.is_file() and one.stat().st_size < 20_000_000)


FILES = files()


def source(path: Path, facts: Any = None) -> SourceImage:
    return SourceImage(1, "1.2", "1.2", "1.2", path, facts)


def said(call: Callable[[], Any]) -> Any:
    """Return what a call returns or why it refuses."""
    try:
        return call()
    except NotAnalysableError as error:
        return (str(error.code), error.reason)
    except DecodingError as error:
        return str(error)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype.newbyteorder("=") == other.dtype.newbyteorder("=")
            and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        )
    if isinstance(one, tuple):
        return (
            isinstance(other, tuple)
            and len(one) == len(other)
            and all(same(a, b) for a, b in zip(one, other, strict=True))
        )
    return bool(one == other)


def everything(open_it: Callable[[], Dataset], path: Path) -> Iterator[tuple[str, Any]]:
    """Yield all that readers ask of an image, each of a data set that nobody asked before."""

    def of(read: Callable[[Dataset], Any]) -> Any:
        return said(lambda: read(open_it()))

    yield "gate", of(lambda d: check_image(d, Criteria()))
    yield "slices", of(lambda d: tuple(slices_of(source(path), d)))
    count = of(frame_count)
    yield "count", count
    if not isinstance(count, int):
        return
    for index in sorted({0, count // 2, count - 1}):
        yield f"decoded {index}", of(lambda d: decode_frame(d, index))  # noqa: B023
        yield f"hu {index}", of(lambda d: parts(hounsfield_values(d, index)))  # noqa: B023
        for voi in (False, True):
            yield (
                f"film {index} {voi}",
                of(lambda d: parts(radiograph_values(d, index, voi=voi))),  # noqa: B023
            )


def parts(image: Any) -> tuple[Any, ...]:
    # Which decoder read it is told where the fastest was asked first, and no part of the values.
    notes = tuple(note for note in image.notes if note != "decoder_fallback")
    return image.values, notes, image.full_range


def compare(path: Path) -> None:
    """Demand the same of the long way, of facts just made and of facts that were kept."""
    try:
        facts = index_file(path)
    except NotAnalysableError as error:
        expected = (str(error.code), error.reason)
        assert said(lambda: open_source(source(path))) == expected
        return
    kept = facts_from_bytes(facts.to_bytes())
    assert kept == facts
    long_way = dict(everything(lambda: open_image(path), path))
    for given in (None, kept):
        short = dict(everything(lambda: open_source(source(path, given))[0], path))  # noqa: B023
        assert short.keys() == long_way.keys()
        for what, value in long_way.items():
            assert same(short[what], value), (what, value, short[what])


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.WARN)


SOME = {
    "CT_small.dcm", "693_J2KI.dcm", "693_J2KR.dcm", "MR_small_RLE.dcm", "JPGExtended.dcm",
    "JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "emri_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_16.dcm", "emri_small_RLE.dcm",
    "emri_small.dcm", "emri_small_jpeg_2k_lossless.dcm", "MR_small_bigendian.dcm", "mlut_18.dcm",
    "image_dfl.dcm", "vlut_04.dcm", "J2K_pixelrep_mismatch.dcm", "SC_rgb.dcm", "liver_1frame.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm", "MR_truncated.dcm", "rtplan.dcm", "OBXXXX1A.dcm",
    "bad_sequence.dcm", "explicit_VR-UN.dcm", "12.dcm", "eCT_Supplemental.dcm", "JPEG2000.dcm",
}  # fmt: skip


@pytest.mark.parametrize("path", [p for p in FILES if p.name in SOME], ids=lambda p: p.name)
def test_a_file_by_its_facts_is_the_file(path: Path) -> None:
    compare(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in FILES if p.name not in SOME], ids=lambda p: p.name)
def test_so_is_every_other_file_that_is_here(path: Path) -> None:
    compare(path)
