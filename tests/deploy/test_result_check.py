"""What delivery asks about a stored report: its faults, and the same in another class."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from running import sample

from deploy.result_check import fallback, fault_of
from inference import codes
from inference.objects import DeviceIdentity, ReportContent, build_report, object_bytes
from inference.reading import Finding, Label, ModelIdentity, Reading, Scope, Thresholds
from scp.channel import COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR, ENHANCED_SR, lesser_classes
from scp.errors import FaultError


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A report as the node keeps it."""
    source = pydicom.dcmread(sample("CT_small.dcm"), stop_before_pixels=True)
    uid = str(source.SOPInstanceUID)
    label = Label("pneumothorax", codes.PNEUMOTHORAX, Thresholds(0.3, 0.6), codes.PLEURA)
    report = build_report(
        ReportContent(
            sources=(source,),
            model=ModelIdentity("m", "1.0.0", "a" * 64),
            device=DeviceIdentity("PREREAD", "Preread", "preread", "0.1.0", "SN-0001"),
            created_at=datetime(2026, 3, 1, tzinfo=UTC),
            reading=Reading((Finding(label, Scope.IMAGE, 0.9, sop_instance_uid=uid),), (uid,)),
        )
    )
    path = tmp_path / "report.dcm"
    path.write_bytes(object_bytes(report))
    return path


def test_a_good_report_has_no_fault(stored: Path) -> None:
    assert fault_of(stored) is None


def test_a_report_without_its_flag_must_not_leave(stored: Path) -> None:
    report = pydicom.dcmread(stored)
    report.VerificationFlag = "VERIFIED"
    report.save_as(stored)
    assert "VerificationFlag" in str(fault_of(stored))
    with pytest.raises(FaultError, match="VerificationFlag"):
        fallback(stored, COMPREHENSIVE_SR)


def test_what_is_no_dicom_must_not_leave(stored: Path) -> None:
    stored.write_bytes(b"nothing")
    assert "cannot be read" in str(fault_of(stored))


def test_the_same_report_in_every_lesser_class(stored: Path, tmp_path: Path) -> None:
    assert lesser_classes(COMPREHENSIVE_3D_SR) == (COMPREHENSIVE_SR, ENHANCED_SR)
    uids = set()
    for sop_class in lesser_classes(COMPREHENSIVE_3D_SR):
        content = fallback(stored, sop_class)
        assert content == fallback(stored, sop_class)
        made = pydicom.dcmread(BytesIO(content))
        assert made.SOPClassUID == made.file_meta.MediaStorageSOPClassUID == sop_class
        uids.add(str(made.SOPInstanceUID))
        path = tmp_path / f"{sop_class}.dcm"
        path.write_bytes(content)
        assert fault_of(path) is None
    assert len(uids | {str(pydicom.dcmread(stored).SOPInstanceUID)}) == 3


def test_a_class_of_no_report_is_refused(stored: Path) -> None:
    with pytest.raises(FaultError):
        fallback(stored, "1.2.3")
