"""A stored report in another SOP class is what would have been built for that class."""

# ruff: noqa: RUF001 - names in other scripts are the point

from __future__ import annotations

import dataclasses
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference.errors import ObjectError
from inference.objects import ReportClass, build_report, object_bytes
from inference.objects.fallback import as_class
from inference.objects.header import IMPLEMENTATION_CLASS_UID
from inference.objects.secondary_capture import build_capture
from scp.part10 import IMPLEMENTATION_CLASS_UID as OF_RECEIVED_FILES


@pytest.mark.parametrize("sop_class", list(ReportClass))
@pytest.mark.parametrize("kind", ["chest", "series", "companions", "not analysed"])
def test_a_stored_report_becomes_what_would_have_been_built(
    sop_class: ReportClass,
    kind: str,
    chest: Dataset,
    series: list[Dataset],
    pneumothorax: Any,
    hemorrhage: Any,
    not_analysed: Any,
    capture: Any,
) -> None:
    content = {
        "chest": lambda: pneumothorax(chest, predecessor=build_report(pneumothorax(chest, 0.1))),
        "series": lambda: hemorrhage(series),
        "companions": lambda: pneumothorax(
            chest, companions=(build_capture(capture(pneumothorax(chest))),)
        ),
        "not analysed": lambda: not_analysed(chest, "wrong_view", "lateral view"),
    }[kind]()
    before = object_bytes(build_report(content))
    stored = dcmread(BytesIO(before))
    built = object_bytes(build_report(dataclasses.replace(content, sop_class=sop_class)))
    assert object_bytes(as_class(stored, sop_class)) == built
    assert object_bytes(stored) == before


@pytest.mark.parametrize(
    ("terms", "name"),
    [
        (None, b"J\xe9r\xf4me"),
        ("ISO_IR 100", "Buc^Jérôme".encode("latin-1")),
        ("ISO_IR 144", "Люкceмбypг^Фантом".encode("iso8859-5")),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode()),
        (["ISO 2022 IR 6", "ISO 2022 IR 58"], b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1"),
    ],
)
def test_the_bytes_of_a_name_survive_the_change_of_class(
    terms: Any, name: bytes, ct: Dataset, pneumothorax: Any
) -> None:
    ct.pop("SpecificCharacterSet", None)
    if terms is not None:
        ct.SpecificCharacterSet = terms
    file = BytesIO()
    ct.PatientName = "X" * len(name)
    ct.save_as(file, enforce_file_format=True)
    source = dcmread(BytesIO(file.getvalue().replace(b"X" * len(name), name)))
    content = pneumothorax(source)
    stored = dcmread(BytesIO(object_bytes(build_report(content))))
    built = build_report(dataclasses.replace(content, sop_class=ReportClass.ENHANCED))
    assert object_bytes(as_class(stored, ReportClass.ENHANCED)) == object_bytes(built)
    assert name in object_bytes(built)


def test_only_a_sound_report_has_another_class(
    chest: Dataset, pneumothorax: Any, capture: Any
) -> None:
    with pytest.raises(ObjectError, match="no report"):
        as_class(build_capture(capture(pneumothorax(chest))), ReportClass.ENHANCED)
    report = build_report(pneumothorax(chest))
    report.PreliminaryFlag = "FINAL"
    with pytest.raises(ObjectError, match="PreliminaryFlag"):
        as_class(report, ReportClass.ENHANCED)


def test_files_name_the_node_as_the_implementation(chest: Dataset, pneumothorax: Any) -> None:
    """One node, one implementation: in what it receives and in what it makes."""
    ds = dcmread(BytesIO(object_bytes(build_report(pneumothorax(chest)))))
    assert ds.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID == OF_RECEIVED_FILES
    assert ds.file_meta.ImplementationVersionName == "PREREAD_0.1.0"
