"""A report as a page, and key objects as text: what a person reads first must be the result."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from inference import codes
from inference.objects import ReportContent, build_report, render
from inference.objects.html import render_html
from inference.objects.listed import positions
from inference.reading import Code, Finding, Label, Presence, Reading, Scope, Thresholds


def heading(report: Dataset) -> str:
    page = render_html(report)
    (found,) = re.findall("<h1>(.*)</h1>", page)
    assert f"<title>{found}</title>" in page
    return str(found)


@pytest.mark.parametrize(
    ("probability", "result"),
    [(0.93, Presence.PRESENT), (0.4, Presence.UNDETERMINED), (0.02, Presence.ABSENT)],
)
def test_the_heading_carries_the_result(
    chest: Dataset, pneumothorax: Any, probability: float, result: Presence
) -> None:
    report = build_report(pneumothorax(chest, probability))
    assert heading(report) == f"AI unverified: Pneumothorax - {result}"


def test_of_several_findings_the_heading_has_the_first(
    series: list[Dataset], hemorrhage: Any
) -> None:
    report = build_report(hemorrhage(series))
    assert heading(report) == "AI unverified: Intracranial hemorrhage - Present"
    nothing = build_report(hemorrhage(series, (0.02,) * 6))
    assert heading(nothing) == "AI unverified: Intracranial hemorrhage - Absent"


def test_no_heading_says_absent_over_a_finding_that_is_there(
    series: list[Dataset], hemorrhage: Any
) -> None:
    report = build_report(hemorrhage(series, (0.1, 0.3, 0.02, 0.9, 0.02, 0.02)))
    assert heading(report) == (
        "AI unverified: Intracranial hemorrhage - Absent;"
        " Epidural intracranial hemorrhage - Undetermined;"
        " Intracranial hemorrhage (site: Brain ventricle) - Present"
    )


def test_of_several_films_the_heading_has_the_worst(chest: Dataset, pneumothorax: Any) -> None:
    other = Dataset()
    other.update(chest)
    other.SOPInstanceUID = "1.2.3.4"
    content: ReportContent = pneumothorax(chest, 0.02)
    assert content.reading is not None
    (first,) = content.reading.findings
    second = replace(first, probability=0.97, sop_instance_uid="1.2.3.4")
    uids = (str(chest.SOPInstanceUID), "1.2.3.4")
    reading = Reading((first, second), uids)
    both = replace(content, sources=(chest, other), reading=reading)
    assert heading(build_report(both)) == "AI unverified: Pneumothorax - Present"


def test_of_a_film_with_many_labels_the_heading_counts(chest: Dataset, pneumothorax: Any) -> None:
    content: ReportContent = pneumothorax(chest)
    uid, limits = str(chest.SOPInstanceUID), Thresholds(0.2, 0.5)
    findings = tuple(
        Finding(Label(name, code, limits), Scope.IMAGE, probability, sop_instance_uid=uid)
        for name, code, probability in (
            ("effusion", Code("60046008", "SCT", "Pleural effusion"), 0.1),
            ("pneumothorax", codes.PNEUMOTHORAX, 0.9),
        )
    )
    report = build_report(replace(content, reading=Reading(findings, (uid,))))
    assert heading(report) == "AI unverified: ptx-densenet - 1 Present, 1 Absent"


def test_what_was_not_analysed_has_no_result(ct: Dataset, not_analysed: Any) -> None:
    report = build_report(not_analysed(ct, "missing_slices", "3 of 28 slices are missing"))
    assert heading(report) == str(report.SeriesDescription)


def test_findings_of_one_name_are_told_apart(series: list[Dataset], hemorrhage: Any) -> None:
    page = render_html(build_report(hemorrhage(series)))
    first = re.findall("<tr><td>(.*?)</td>", page)
    assert len(set(first)) == len(first) == 6
    for site in ("Intracranial", "Brain ventricle"):
        name = f"Intracranial hemorrhage (site: {site})"
        assert name in first
        assert f"<p>{name}: " in page
    assert "Cerebral hemorrhage" in first  # alone of its name


def test_what_a_header_does_not_say_is_not_stated(chest: Dataset, pneumothorax: Any) -> None:
    def row(**header: str) -> str:
        report = build_report(pneumothorax(chest))
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber"):
            setattr(report, keyword, header.get(keyword, ""))
        page = render_html(report)
        assert "<dt>Accession number</dt><dd>not stated</dd>" in page
        return str(re.findall("<dt>Birth date, sex</dt><dd>(.*)</dd>", page)[0])

    assert row(PatientSex="O") == "not stated, O"
    assert row(PatientBirthDate="19500131") == "1950-01-31, not stated"
    assert row(PatientBirthDate="19500131", PatientSex="F") == "1950-01-31, F"
    assert row() == "not stated, not stated"


def test_key_images_say_where_they_lie(series: list[Dataset], hemorrhage: Any) -> None:
    report = build_report(hemorrhage(series))
    at = positions(report)
    page = render_html(report)
    by_uid = {str(one.SOPInstanceUID): one for one in series}
    assert len(at) == 3
    for uid, place in at.items():
        assert place == pytest.approx(float(by_uid[uid].ImagePositionPatient[2]))  # axial
        assert f"<code>{uid}</code> at {place:.1f} mm" in page


def test_images_without_a_place_have_their_uid_alone(chest: Dataset, pneumothorax: Any) -> None:
    report = build_report(pneumothorax(chest))
    assert positions(report) == {}
    assert f"<code>{chest.SOPInstanceUID}</code></td>" in render_html(report)


def test_key_objects_say_what_they_are_and_what_each_reference_is(
    ct: Dataset, stacked: Any, hemorrhage: Any, masked: Any, all_kinds: Any
) -> None:
    made = all_kinds(masked(hemorrhage(stacked(ct, 12)), (6, 7)), captures=2)
    lines = render(made["kos"]).splitlines()
    assert lines[0] == (
        "AI unverified: Intracranial hemorrhage, key objects: Of Interest (RESEARCH)"
    )
    kinds = [line.strip().split(":")[0] for line in lines[5:]]
    assert kinds == [
        *["Source image (CT Image Storage)"] * 3, "Capture", "Capture", "Segmentation", "Report",
    ]  # fmt: skip
    for kind, name in (("sc1", "Capture"), ("seg", "Segmentation"), ("sr", "Report")):
        assert f"  {name}: {made[kind].SOPInstanceUID}" in lines
