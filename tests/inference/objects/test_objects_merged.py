"""Reissued objects after a patient merge before the validators, among all that an archive holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from read_sources import CREATED_AT, REPORTS, Made, read, terms
from varied_sources import make_source

from inference.objects import object_bytes, validate
from inference.objects.corrected import correct, reissue
from inference.objects.fallback import as_class
from inference.objects.report import ReportClass

MERGED = {
    "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "PatientID": "MERGED-1",
    "AccessionNumber": "A-77",
}


@pytest.fixture(
    scope="module",
    params=["cr", "ct of GE", "request attributes", "name in greek"],
)
def merged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Made, dict[str, Dataset], list[Path]]]:
    """Return objects, what replaces them, and what else an archive holds after a patient merge."""
    folder = tmp_path_factory.mktemp("merged")
    source = make_source(request.param, folder)
    made = Made(source, read(source))
    kinds = [kind for kind in made.files if kind not in REPORTS[1:]]
    news = reissue([made.stored[kind] for kind in kinds], MERGED, CREATED_AT + timedelta(days=9))
    images = []
    replaced = folder / "replaced.dcm"  # predecessor of the new report
    replaced.write_bytes(made.files["sr"])
    for number, path in enumerate((*source.files, replaced)):
        ds = dcmread(path)
        ds.decode()
        ds.SpecificCharacterSet = "ISO_IR 192"
        correct(ds, MERGED)
        images.append(folder / f"corrected-{number}.dcm")
        ds.save_as(images[-1])
    yield made, dict(zip(kinds, news, strict=True)), images


Merged = tuple[Made, dict[str, Dataset], list[Path]]


@pytest.mark.peer
def test_reissued_objects_pass_the_validators(
    merged: Merged, validators: Any, tmp_path: Path
) -> None:
    _, news, images = merged
    files = {kind: object_bytes(ds) for kind, ds in news.items()}
    report = dcmread(BytesIO(files["sr"]))
    for name, sop_class in zip(REPORTS[1:], list(ReportClass)[1:], strict=True):
        files[name] = object_bytes(as_class(report, sop_class))
    validators.check_objects(files, images, tmp_path)
    for data in files.values():
        back = dcmread(BytesIO(data))
        validate(back)
        assert str(back.PatientName) == MERGED["PatientName"]
        assert (back.PatientID, back.AccessionNumber) == ("MERGED-1", "A-77")
        assert terms(back) == ["ISO_IR 192"]


def test_reissued_objects_refer_to_each_other(merged: Merged) -> None:
    made, news, _ = merged
    sources = {str(source.SOPInstanceUID) for source in made.basis.sources}
    new = {str(ds.SOPInstanceUID) for ds in news.values()}
    for kind, ds in news.items():
        old = made.stored[kind]
        assert references(ds) <= sources | new | {str(old.SOPInstanceUID)}, kind
        assert len(references(ds) & new) == len(references(old) - sources), kind
        predecessors = [
            str(one.ReferencedSOPInstanceUID)
            for study in ds.get("PredecessorDocumentsSequence") or ()
            for series in study.ReferencedSeriesSequence
            for one in series.ReferencedSOPSequence
        ]
        assert predecessors == ([old.SOPInstanceUID] if kind == "sr" else []), kind
        for request in ds.get("ReferencedRequestSequence") or ():
            assert request.AccessionNumber == "A-77"


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.timeout(900)
def test_the_template_validator_takes_reissued_reports(
    merged: Merged, validators: Any, tmp_path: Path
) -> None:
    for name in {"sr", "ko"} & merged[1].keys():
        validators.assert_template(object_bytes(merged[1][name]), tmp_path / f"{name}.dcm")


def references(ds: Dataset) -> set[str]:
    """Return all SOP Instance UIDs that a data set refers to."""
    return {
        str(item.ReferencedSOPInstanceUID)
        for element in ds
        if element.VR == "SQ"
        for below in element.value
        for item in (below, *nested(below))
        if "ReferencedSOPInstanceUID" in item
    }


def nested(ds: Dataset) -> Iterator[Dataset]:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from nested(item)
