"""``preread headers``: a row for each file, of any make, and nothing of the patient unasked."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.data import get_testdata_file
from typer.testing import CliRunner, Result

from deploy.cli import app
from inference.errors import InferenceError
from inference.header_table import IDENTIFIERS, TableSpec, header_rows, keywords_of
from inference.training.phantoms.files import write_chest, write_head_series


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_head_series(folder / "head", 1, slices=2, size=64)
    write_chest(folder / "chest", 2, size=128)
    return folder


def headers(*arguments: object, status: int = 0) -> Result:
    done = CliRunner().invoke(app, ["headers", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def rows_of(*arguments: object, status: int = 0) -> list[dict[str, str]]:
    text = headers(*arguments, "--format", "csv", status=status).stdout
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_says_what_the_header_says(images: Path) -> None:
    chest, first, second = rows_of(images)
    assert chest["sop_class"] == "Computed Radiography Image Storage"
    assert (chest["modality"], chest["body_part"], chest["view"]) == ("CR", "CHEST", "PA")
    assert (first["rows"], first["columns"], first["frames"]) == ("64", "64", "1")
    assert (first["bits_allocated"], first["bits_stored"]) == ("16", "12")
    assert first["transfer_syntax"] == "Explicit VR Little Endian"
    assert first["spacing"] == "3.75\\3.75"
    assert (first["rescale_intercept"], first["window_width"]) == ("-1024", "80")
    assert first["sop_instance_uid"] != second["sop_instance_uid"]


def test_who_the_patient_is_must_be_asked_for(images: Path) -> None:
    told = headers(images, "--format", "json", "--pixels", "--tags", "KVP").stdout
    for dataset in map(dcmread, images.rglob("*.dcm")):
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber"):
            assert str(dataset[keyword].value) not in told
    for tag in ("PatientSize", "0010,0010", "StudyDate", "OperatorsName", "ContentCreatorName"):
        with pytest.raises(InferenceError, match="may identify the patient; add --identifiers"):
            headers(images, "--tags", tag)
    (row, *_) = rows_of(images, "--identifiers", "--tags", "PatientID,KVP")
    assert row["PatientID"] == "PHANTOM-CHEST-2"
    assert row["KVP"] == "120"
    assert set(IDENTIFIERS) < set(row)


@pytest.mark.parametrize(
    "tag",
    ["PersonAddress", "PersonTelephoneNumbers", "ClinicalTrialSubjectID",
     "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest",
     "RequestedProcedureID", "ServiceEpisodeID", "SpecimenIdentifier", "CurrentPatientLocation",
     "StudyComments", "VisitComments", "InterpretationText", "TextValue", "DeviceSerialNumber",
     "PixelData", "StudyID", "InstitutionName", "InstitutionAddress", "StationName", "PlateID",
     "InstitutionalDepartmentName", "ReferringPhysicianTelephoneNumbers", "ImageComments",
     "FrameOfReferenceUID", "ReferencedSOPInstanceUID", "StudyTime", "RetrieveAETitle",
     "DigitalSignatureUID", "AccessionNumber", "PatientAge", "IrradiationEventUID"],
)  # fmt: skip
def test_attributes_by_which_somebody_is_found_must_be_asked_for(tag: str) -> None:
    with pytest.raises(InferenceError, match="may identify the patient"):
        keywords_of([tag], identifiers=False)
    assert keywords_of([tag], identifiers=True) == (tag,)


def test_attributes_of_the_image_need_not_be_asked_for() -> None:
    tags = ("KVP", "ConvolutionKernel", "PatientPosition", "ImageType", "SeriesDescription",
            "SliceLocation", "SeriesNumber", "Manufacturer", "ViewCodeSequence", "ProtocolName",
            "SOPClassUID", "Rows", "ImageOrientationPatient", "Laterality",
            "SmallestImagePixelValue")  # fmt: skip
    assert keywords_of(tags, identifiers=False) == tags


@pytest.mark.parametrize(
    "keyword",
    ["Modality", "BodyPartExamined", "ViewPosition", "Rows", "BitsStored", "RescaleSlope",
     "PhotometricInterpretation", "WindowCenter", "PixelSpacing", "SliceThickness",
     "SOPInstanceUID", "SOPClassUID", "KVP", "ConvolutionKernel"],
)  # fmt: skip
def test_a_name_where_none_belongs_is_not_shown(images: Path, tmp_path: Path, keyword: str) -> None:
    """Odd senders write anything anywhere, and the file says of what kind it is."""
    dataset = dcmread(images / "chest" / "chest.dcm")
    dataset[keyword] = DataElement(keyword, "LO", "Doe^Jane")
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=False)
    tags = ("--tags", "KVP,ConvolutionKernel", "--format", "json")
    done = CliRunner().invoke(app, ["headers", str(tmp_path), *tags], catch_exceptions=False)
    assert "Doe" not in done.stdout
    assert "?" in done.stdout or json.loads(done.stdout)[0]["error"]


def test_pixels_are_counted_as_the_file_has_them(images: Path) -> None:
    for row in rows_of(images / "head", "--pixels"):
        dataset = dcmread(row["file"])
        hu = dataset.pixel_array.astype(np.float64) - 1024
        assert float(row["min"]) == hu.min()
        assert float(row["max"]) == hu.max()
        assert float(row["mean"]) == pytest.approx(hu.mean(), abs=1e-3)
        assert float(row["std"]) == pytest.approx(hu.std(), abs=1e-3)
        inside = ((hu >= 0) & (hu <= 80)).mean()
        assert float(row["share_in_window"]) == pytest.approx(inside, abs=1e-4)
    (row, *_) = rows_of(images / "head", "--pixels", "--window", "0/100000")
    assert float(row["share_in_window"]) == 1.0


def test_broken_files_are_rows_with_an_error_and_a_status(images: Path, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")
    whole = (images / "chest" / "chest.dcm").read_bytes()
    (tmp_path / "b.dcm").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.dcm").write_bytes(whole)
    rows = rows_of(tmp_path, "--pixels", status=1)
    assert rows[0]["error"].startswith("undecodable")
    assert rows[1]["error"].startswith("undecodable")
    assert rows[1]["modality"] == "CR", "what the header said stands, though the pixels are cut"
    assert rows[2]["error"] == ""
    text = headers(tmp_path, "--pixels", status=1).stdout
    assert text.splitlines()[0].startswith("file ")
    assert "undecodable" in text


@pytest.mark.parametrize(
    "name",
    ["693_J2KR.dcm", "RG1_UNCR.dcm", "SC_rgb.dcm", "eCT_Supplemental.dcm", "US1_UNCR.dcm",
     "MR_small.dcm", "rtplan.dcm", "examples_palette.dcm", "no_meta.dcm"],
)  # fmt: skip
def test_files_of_any_make_have_a_row(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} is not installed (pip install pydicom-data)")
    done = CliRunner().invoke(app, ["headers", str(path), "--pixels", "--format", "json"])
    (row,) = json.loads(done.stdout)
    assert done.exit_code == (1 if row["error"] else 0)
    assert row["error"] or row["max"] >= row["min"]


def test_odd_values_have_a_cell(images: Path, tmp_path: Path) -> None:
    dataset = dcmread(images / "chest" / "chest.dcm")
    dataset.KVP = "inf"
    dataset.ViewCodeSequence = [Dataset()]
    dataset.save_as(tmp_path / "x.dcm")
    tags = ("--tags", "KVP,ViewCodeSequence,ImageType,ConvolutionKernel")
    (row,) = json.loads(headers(tmp_path, *tags, "--format", "json").stdout)
    assert row["KVP"] == "inf"
    assert row["ViewCodeSequence"] == "1 items"
    assert row["ImageType"] == "ORIGINAL\\PRIMARY"
    assert row["ConvolutionKernel"] is None


def test_what_is_no_attribute_or_window_is_said(images: Path) -> None:
    with pytest.raises(InferenceError, match="no attribute of DICOM"):
        headers(images, "--tags", "KVPS")
    assert rows_of(images, "--tags", "0018,0060")[0]["KVP"] == "120"


def test_rows_come_as_files_are_read_and_a_file_of_them_appears_whole(
    images: Path, tmp_path: Path
) -> None:
    asked: list[Path] = []

    def paths() -> Iterator[Path]:
        for path in sorted(images.rglob("*.dcm")):
            asked.append(path)
            yield path

    rows = header_rows(paths(), TableSpec())
    assert next(rows)["modality"] == "CR"
    assert len(asked) == 1
    out = tmp_path / "rows.csv"
    assert headers(images, "--format", "csv", "--out", out).stdout == ""
    assert len(out.read_text().splitlines()) == 4
    assert list(tmp_path.iterdir()) == [out]


def test_the_header_table_needs_no_torch() -> None:
    code = "import sys, inference.header_table; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
