"""Sources, contents and reports that the tests of this room share."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from inference import codes
from inference.objects import (
    DeviceIdentity,
    ReportClass,
    ReportContent,
    build_report,
    object_bytes,
)
from inference.objects.content import AnalysisContent
from inference.objects.fallback import as_class
from inference.objects.key_objects import KeyObjectsContent, build_key_objects
from inference.objects.secondary_capture import CaptureContent, build_capture
from inference.objects.segmentation import SegmentationContent, build_segmentation
from inference.reading import (
    Code,
    Finding,
    Illustration,
    Label,
    Mask,
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


def shared_part(content: AnalysisContent) -> dict[str, Any]:
    """Return what all contents of one analysis share."""
    return {f.name: getattr(content, f.name) for f in dataclasses.fields(AnalysisContent)}


def picture(rows: int = 64, columns: int = 48, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, 255, (rows, columns, 3), dtype=np.uint8)


def capture_content(content: ReportContent, number: int = 1, **changes: Any) -> CaptureContent:
    """Return a capture of the first key image, or a card of text where nothing was analysed."""
    values: dict[str, Any] = {"pixels": picture(), "number": number}
    if content.reported:
        first = content.reported[0]
        keys = first.key_sop_instance_uids or content.source_uids
        uid = first.sop_instance_uid or keys[min(number, len(keys)) - 1]
        labels = tuple(f.label.name for f in content.reported if f.presence == "Present")
        grey = picture()[..., 0]
        values["illustration"] = Illustration(uid, 0, grey, "brain 40/80", labels=labels)
    return CaptureContent(**(shared_part(content) | values | changes))


def with_masks(content: ReportContent, slices: Sequence[int] = (0,)) -> ReportContent:
    """Give every label a mask in some of the images."""
    assert content.reading is not None
    masks = []
    for number, finding in enumerate(content.reported):
        for at in slices:
            source = content.sources[at]
            pixels = np.zeros((int(source.Rows), int(source.Columns)), dtype=np.bool_)
            pixels[3 + number : 20 + number + at, 5:9] = True
            masks.append(Mask(finding.label.name, str(source.SOPInstanceUID), 0, pixels))
    reading = dataclasses.replace(content.reading, masks=tuple(masks))
    return dataclasses.replace(content, reading=reading)


def segmentation_content(content: ReportContent, **changes: Any) -> SegmentationContent:
    return SegmentationContent(**(shared_part(content) | changes))


def key_objects_content(content: ReportContent, **changes: Any) -> KeyObjectsContent:
    return KeyObjectsContent(**(shared_part(content) | changes))


def all_objects(content: ReportContent, captures: int = 1) -> dict[str, Dataset]:
    """Return every kind of object that an analysis gives, referring to each other."""
    made = {
        f"sc{number}": build_capture(capture_content(content, number))
        for number in range(1, captures + 1)
    }
    if content.reading is not None and content.reading.masks:
        made["seg"] = build_segmentation(segmentation_content(content))
    companions = tuple(made.values())
    made["sr"] = build_report(dataclasses.replace(content, companions=companions))
    stored = dcmread(BytesIO(object_bytes(made["sr"])))
    for sop_class in (ReportClass.COMPREHENSIVE, ReportClass.ENHANCED):
        made[f"sr-{sop_class.name.lower()}"] = as_class(stored, sop_class)
    if any(f.key_sop_instance_uids and f.presence != "Absent" for f in content.reported):
        both = (*companions, made["sr"])
        made["kos"] = build_key_objects(key_objects_content(content, companions=both))
    return made


@pytest.fixture(scope="session")
def capture() -> Callable[..., CaptureContent]:
    return capture_content


@pytest.fixture(scope="session")
def masked() -> Callable[..., ReportContent]:
    return with_masks


@pytest.fixture(scope="session")
def segmented() -> Callable[..., SegmentationContent]:
    return segmentation_content


@pytest.fixture(scope="session")
def key_objects() -> Callable[..., KeyObjectsContent]:
    return key_objects_content


@pytest.fixture(scope="session")
def all_kinds() -> Callable[..., dict[str, Dataset]]:
    return all_objects


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
