"""Reports of every kind before the validators of the field."""

# ruff: noqa: RUF001 - names in other scripts are the point

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from inference.objects import ReportClass, ReportContent, build_report, object_bytes
from inference.objects.secondary_capture import build_capture
from inference.objects.segmentation import build_segmentation

pytestmark = pytest.mark.peer

Case = tuple[Callable[[Dataset], ReportContent], Path]


def plain(ds: Dataset) -> None:
    """Leave the source as it is."""


def bare(ds: Dataset) -> None:
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
                    "StudyTime", "AccessionNumber", "ReferringPhysicianName"):  # fmt: skip
        ds.pop(keyword, None)


def requested(ds: Dataset) -> None:
    issuer, request, code = Dataset(), Dataset(), Dataset()
    issuer.LocalNamespaceEntityID = "RIS"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "24725-4", "LN", "CT Head"
    request.RequestedProcedureID, request.RequestedProcedureDescription = "RP-7", "CT head"
    request.ScheduledProcedureStepID = "SPS-1"
    request.RequestedProcedureCodeSequence = Sequence([code])
    ds.RequestAttributesSequence = Sequence([request])
    ds.AccessionNumber, ds.IssuerOfAccessionNumberSequence = "A-1", Sequence([issuer])
    ds.IssuerOfPatientID = "HOSPITAL"
    ds.TimezoneOffsetFromUTC = "+0530"


def named(terms: str | list[str], name: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.SpecificCharacterSet = terms
        ds.PatientName = name

    return change


CHANGES: dict[str, Callable[[Dataset], None]] = {
    "plain": plain,
    "bare": bare,
    "requested": requested,
    "japanese": named(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "korean": named(["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "cyrillic": named("ISO_IR 144", "Люкceмбypг^Фантом"),
    "greek": named("ISO_IR 126", "Διονυσιος^Φ"),
    "arabic": named("ISO_IR 127", "قباني^لنزار"),
    "unicode": named("ISO_IR 192", "Wang^XiaoDong=王^小東"),
}


def judge(
    validators: Any,
    ds: Dataset,
    sources: list[Path],
    folder: Path,
    others: tuple[Path, ...] = (),
) -> Path:
    """Write a report and let the quick validators look at it; return its file."""
    path = folder / "report.dcm"
    path.write_bytes(object_bytes(ds))
    assert validators.unexplained(path, sources) == []
    assert validators.dcentvfy(path, [*sources, *others]) == []
    assert "Conclusion" in validators.dsrdump(path)
    # dsr2html prints texts and not their names: what it shows must speak for itself
    assert "Not for primary diagnosis" in validators.dsr2html(path, folder / "report.html")
    return path


@pytest.mark.parametrize(
    ("name", "change"), [("MR_small.dcm", "plain"), *(("CT_small.dcm", each) for each in CHANGES)]
)
def test_variants_of_sources(
    name: str, change: str, testdata: Any, pneumothorax: Any, validators: Any, tmp_path: Path
) -> None:
    source = dcmread(testdata(name))
    CHANGES[change](source)
    path = tmp_path / "source.dcm"
    source.save_as(path)
    header = dcmread(path, stop_before_pixels=True)
    judge(validators, build_report(pneumothorax(header)), [path], tmp_path)


@pytest.mark.parametrize(
    ("name", "probability"),
    [
        ("RG1_UNCR.dcm", 0.93),
        ("RG1_J2KR.dcm", 0.45),
        ("RG3_UNCR.dcm", 0.02),
        ("SC_rgb.dcm", 0.93),
    ],
)
def test_radiographs(
    name: str, probability: float, testdata: Any, pneumothorax: Any, validators: Any, tmp_path: Path
) -> None:
    path = testdata(name)
    header = dcmread(path, stop_before_pixels=True)
    judge(validators, build_report(pneumothorax(header, probability)), [path], tmp_path)


@pytest.mark.parametrize("sop_class", list(ReportClass))
def test_every_class(
    sop_class: ReportClass, testdata: Any, pneumothorax: Any, validators: Any, tmp_path: Path
) -> None:
    path = testdata("RG1_UNCR.dcm")
    header = dcmread(path, stop_before_pixels=True)
    first = build_report(pneumothorax(header, 0.1, sop_class=sop_class))
    earlier = tmp_path / "earlier.dcm"
    earlier.write_bytes(object_bytes(first))
    content = pneumothorax(header, sop_class=sop_class, predecessor=first)
    judge(validators, build_report(content), [path], tmp_path, others=(earlier,))


def test_siim_radiographs(shared: Path, pneumothorax: Any, validators: Any, tmp_path: Path) -> None:
    for path in sorted((shared / "cxr_siim_format").glob("*.dcm")):
        header = dcmread(path, stop_before_pixels=True)
        judge(validators, build_report(pneumothorax(header)), [path], tmp_path)


def test_head_ct(head_ct: list[Path], hemorrhage: Any, validators: Any, tmp_path: Path) -> None:
    headers = [dcmread(path, stop_before_pixels=True) for path in head_ct]
    ds = build_report(hemorrhage(headers))
    judge(validators, ds, head_ct, tmp_path)


def test_not_analysed(testdata: Any, not_analysed: Any, validators: Any, tmp_path: Path) -> None:
    path = testdata("CT_small.dcm")
    header = dcmread(path, stop_before_pixels=True)
    ds = build_report(not_analysed(header, "too_few_slices", "1 slice, 12 are needed"))
    judge(validators, ds, [path], tmp_path)


def written(sources: list[Dataset], folder: Path) -> list[Path]:
    """Write the images of a made-up series, as files that dcentvfy can hold together."""
    paths = []
    for source in sources:
        paths.append(folder / f"source-{source.InstanceNumber}.dcm")
        source.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.mark.parametrize("change", ["plain", "bare", "requested", "japanese"])
def test_all_objects_of_a_series(
    change: str,
    ct: Dataset,
    stacked: Any,
    hemorrhage: Any,
    masked: Any,
    all_kinds: Any,
    validators: Any,
    tmp_path: Path,
) -> None:
    CHANGES[change](ct)
    slices = stacked(ct, 12)
    paths = written(slices, tmp_path)
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    made = all_kinds(masked(hemorrhage(headers), (4, 5, 7)), captures=3)
    assert set(made) == {
        "sc1", "sc2", "sc3", "seg", "sr", "sr-comprehensive", "sr-enhanced", "kos",
    }  # fmt: skip
    files = {name: object_bytes(ds) for name, ds in made.items()}
    validators.check_objects(files, paths, tmp_path)


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG1_J2KR.dcm", "RG3_UNCR.dcm", "SC_rgb.dcm"])
@pytest.mark.parametrize("probability", [0.93, 0.02])
def test_all_objects_of_a_radiograph(
    name: str,
    probability: float,
    testdata: Any,
    pneumothorax: Any,
    masked: Any,
    all_kinds: Any,
    validators: Any,
    tmp_path: Path,
) -> None:
    path = testdata(name)
    content = pneumothorax(dcmread(path, stop_before_pixels=True), probability)
    made = all_kinds(masked(content) if probability > 0.5 else content)
    files = {name: object_bytes(ds) for name, ds in made.items()}
    validators.check_objects(files, [path], tmp_path)


def test_all_objects_of_an_enhanced_image(
    testdata: Any,
    pneumothorax: Any,
    capture: Any,
    masked: Any,
    segmented: Any,
    validators: Any,
    tmp_path: Path,
) -> None:
    path = testdata("emri_small.dcm")
    header = dcmread(path, stop_before_pixels=True)
    content = masked(pneumothorax(header))
    made = {
        "sc": build_capture(capture(content)),
        "seg": build_segmentation(segmented(content)),
    }
    made["sr"] = build_report(dataclasses.replace(content, companions=tuple(made.values())))
    assert made["sc"].SourceImageSequence[0].ReferencedFrameNumber == 1
    files = {name: object_bytes(ds) for name, ds in made.items()}
    validators.check_objects(files, [path], tmp_path)


def test_all_objects_of_what_was_not_analysed(
    testdata: Any, not_analysed: Any, all_kinds: Any, validators: Any, tmp_path: Path
) -> None:
    path = testdata("CT_small.dcm")
    header = dcmread(path, stop_before_pixels=True)
    made = all_kinds(not_analysed(header, "too_few_slices", "1 slice, 12 are needed"))
    assert set(made) == {"sc1", "sr", "sr-comprehensive", "sr-enhanced"}
    files = {name: object_bytes(ds) for name, ds in made.items()}
    validators.check_objects(files, [path], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["present", "series", "key objects", "enhanced", "refused"])
def test_the_template_validator_finds_no_error(
    document: str,
    chest: Dataset,
    series: list[Dataset],
    ct: Dataset,
    pneumothorax: Any,
    hemorrhage: Any,
    not_analysed: Any,
    masked: Any,
    all_kinds: Any,
    validators: Any,
    tmp_path: Path,
) -> None:
    """The widest report, the shortest and the key objects."""
    content, kind = {
        "present": lambda: (pneumothorax(chest), "sr"),
        "series": lambda: (masked(hemorrhage(series), (14, 15)), "sr"),
        "key objects": lambda: (masked(hemorrhage(series), (14, 15)), "kos"),
        "enhanced": lambda: (masked(hemorrhage(series), (14, 15)), "sr-enhanced"),
        "refused": lambda: (not_analysed(ct, "missing_slices", "3 of 28 are missing"), "sr"),
    }[document]()
    path = tmp_path / "document.dcm"
    path.write_bytes(object_bytes(all_kinds(content)[kind]))
    verdict = validators.pixelmed(path)
    assert verdict.found_root
    assert verdict.errors == []


@pytest.mark.slow
def test_the_template_validator_would_find_an_error(
    chest: Dataset, pneumothorax: Any, all_kinds: Any, validators: Any, tmp_path: Path
) -> None:
    """Else its silence about all others would prove nothing."""
    report = all_kinds(pneumothorax(chest))["sr"]
    path = tmp_path / "document.dcm"
    for item in report.ContentSequence:
        if item.get("ValueType") == "CONTAINER" and "ContentSequence" in item:
            item.ContentSequence[0].RelationshipType = "HAS PROPERTIES"
    path.write_bytes(object_bytes(report))
    assert validators.pixelmed(path).errors
