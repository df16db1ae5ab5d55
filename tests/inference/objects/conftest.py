"""Sources, contents and reports that the tests of this room share."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from inference import codes
from inference.objects import DeviceIdentity, ReportContent
from inference.reading import (
    Code,
    Finding,
    Label,
    ModelIdentity,
    Reading,
    Scope,
    Thresholds,
)

CREATED_AT = datetime(2026, 3, 1, 10, 20, 30, tzinfo=UTC)
DEVICE = DeviceIdentity("PREREAD", "Preread", "preread", "0.1.0", "SN-0001")
PNEUMOTHORAX = Label("pneumothorax", codes.PNEUMOTHORAX, Thresholds(0.3, 0.6), codes.PLEURA)
LIMITS = Thresholds(0.2, 0.5)
HEMORRHAGE: dict[str, tuple[Code, Code | None]] = {
    "any": (codes.INTRACRANIAL_HEMORRHAGE, codes.INTRACRANIAL),
    "epidural": (codes.EPIDURAL_HEMORRHAGE, None),
    "intraparenchymal": (codes.CEREBRAL_HEMORRHAGE, codes.BRAIN),
    "intraventricular": (codes.INTRACRANIAL_HEMORRHAGE, codes.BRAIN_VENTRICLE),
    "subarachnoid": (codes.SUBARACHNOID_HEMORRHAGE, codes.SUBARACHNOID_SPACE),
    "subdural": (codes.SUBDURAL_HEMORRHAGE, None),
}


def model(name: str = "ptx-densenet", version: str = "1.0.0", sha: str = "a" * 64) -> ModelIdentity:
    return ModelIdentity(name, version, sha)


def pneumothorax_content(
    source: Dataset, probability: float = 0.93, **changes: Any
) -> ReportContent:
    uid = str(source.SOPInstanceUID)
    finding = Finding(PNEUMOTHORAX, Scope.IMAGE, probability, sop_instance_uid=uid)
    values: dict[str, Any] = {
        "sources": (source,),
        "model": model(),
        "device": DEVICE,
        "created_at": CREATED_AT,
        "reading": Reading((finding,), (uid,)),
    }
    return ReportContent(**(values | changes))


def hemorrhage_content(
    sources: Sequence[Dataset],
    probabilities: Sequence[float] = (0.97, 0.03, 0.94, 0.31, 0.02, 0.11),
    n_keys: int = 3,
    **changes: Any,
) -> ReportContent:
    read = tuple(str(source.SOPInstanceUID) for source in sources)
    labels = [Label(n, code, LIMITS, site) for n, (code, site) in HEMORRHAGE.items()]
    keys = read[len(read) // 2 :][:n_keys]
    series = [
        Finding(label, Scope.SERIES, p, None, keys if p >= LIMITS.low else ())
        for label, p in zip(labels, probabilities, strict=True)
    ]
    images = [
        Finding(label, Scope.IMAGE, 0.1, sop_instance_uid=uid) for uid in read for label in labels
    ]
    values: dict[str, Any] = {
        "sources": tuple(sources),
        "model": model("ich-efficientnet", "2.1.0", "b" * 64),
        "device": DEVICE,
        "created_at": CREATED_AT,
        "reading": Reading((*series, *images), read),
    }
    return ReportContent(**(values | changes))


def not_analysed_content(source: Dataset, code: str, reason: str) -> ReportContent:
    return ReportContent(
        sources=(source,),
        model=model(),
        device=DEVICE,
        created_at=CREATED_AT,
        not_analysed=(code, reason),
    )


@pytest.fixture(scope="session")
def pneumothorax() -> Callable[..., ReportContent]:
    return pneumothorax_content


@pytest.fixture(scope="session")
def hemorrhage() -> Callable[..., ReportContent]:
    return hemorrhage_content


@pytest.fixture(scope="session")
def not_analysed() -> Callable[..., ReportContent]:
    return not_analysed_content


@pytest.fixture(scope="session")
def testdata() -> Callable[[str], Path]:
    """Find a file of pydicom or pydicom-data by name."""

    def find(name: str) -> Path:
        path = get_testdata_file(name)
        if path is None:
            pytest.skip(f"pydicom-data has no {name}")
        return Path(str(path))

    return find


@pytest.fixture
def ct(testdata: Callable[[str], Path]) -> Dataset:
    """One CT slice, header only."""
    return dcmread(testdata("CT_small.dcm"), stop_before_pixels=True)


@pytest.fixture
def chest(testdata: Callable[[str], Path]) -> Dataset:
    """A chest radiograph with the pixel spacing zero, header only."""
    return dcmread(testdata("RG1_UNCR.dcm"), stop_before_pixels=True)


@pytest.fixture
def series(ct: Dataset) -> list[Dataset]:
    """A synthetic series of 28 slices."""
    return stack(ct, 28)


@pytest.fixture(scope="session")
def stacked() -> Callable[[Dataset, int], list[Dataset]]:
    return stack


def stack(ct: Dataset, count: int) -> list[Dataset]:
    slices = []
    for number in range(count):
        one = copy.deepcopy(ct)
        one.SOPInstanceUID = f"{ct.SeriesInstanceUID}.{number + 1}"
        one.InstanceNumber = number + 1
        one.ImagePositionPatient = [-125.0, -123.5, 4.0 * number]
        slices.append(one)
    return slices


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared sample studies, or skip."""
    default = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("PREREAD_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip("no shared sample studies (PREREAD_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def head_ct(shared: Path) -> list[Path]:
    return sorted((shared / "head_ct_ge").glob("*.dcm"))
