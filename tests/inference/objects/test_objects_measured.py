"""Volumes in the report: where they stand, what they are of, and what refuses wrong ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference import codes
from inference.errors import ObjectError
from inference.objects import ReportContent, build_report, object_bytes
from inference.objects.checks import nodes
from inference.objects.html import render_html
from inference.objects.validate import validate
from inference.reading import Code, Finding, Measurement, Presence, Scope


def measured(content: ReportContent, value: float = 12.3456, **changes: Any) -> ReportContent:
    """Give every label a volume."""
    assert content.reading is not None
    volumes = tuple(
        Measurement(changes.get("label", f.label.name), codes.VOLUME, value, codes.MILLILITRE)
        for f in content.reported
    )
    reading = dataclasses.replace(content.reading, measurements=volumes)
    return dataclasses.replace(content, reading=reading)


@pytest.fixture
def report(series: list[Dataset], hemorrhage: Callable[..., ReportContent]) -> Dataset:
    return build_report(measured(hemorrhage(series)))


def volumes_of(ds: Dataset) -> list[Dataset]:
    return named(ds, codes.VOLUME)


def named(ds: Dataset, name: Code) -> list[Dataset]:
    return [node.item for node in nodes(ds) if node.name == name]


def test_what_is_present_has_its_volume_in_its_own_group(
    report: Dataset, series: list[Dataset], hemorrhage: Callable[..., ReportContent]
) -> None:
    content = hemorrhage(series)
    present = [f.label.code for f in content.reported if f.presence is Presence.PRESENT]
    found = volumes_of(report)
    assert [_code(item.ContentSequence[0].ConceptCodeSequence[0]) for item in found] == present
    for item in found:
        (value,) = item.MeasuredValueSequence
        assert float(value.NumericValue) == 12.3
        assert _code(value.MeasurementUnitsCodeSequence[0]) == codes.MILLILITRE
        assert item.RelationshipType == "CONTAINS"


def test_people_read_it_where_viewers_show_sentences_alone(report: Dataset) -> None:
    sentences = [str(item.TextValue) for item in named(report, codes.CONCLUSION)]
    assert sum("volume 12.3 ml." in sentence for sentence in sentences) == 2
    assert render_html(report).count("12.3 ml") >= 2


def test_wrong_volumes_are_told_before_they_are_sent(report: Dataset) -> None:
    def damage(change: Callable[[Dataset], object], message: str) -> None:
        copy = dcmread_copy(report)
        change(volumes_of(copy)[0])
        with pytest.raises(ObjectError, match=message):
            validate(copy)

    damage(
        lambda i: setattr(i.MeasuredValueSequence[0], "NumericValue", "-1"), "volume is not between"
    )
    damage(
        lambda i: setattr(
            i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0], "CodeValue", "mm"
        ),
        "volume is not in milliliter",
    )
    damage(lambda i: setattr(i, "ContentSequence", []), "volume does not say of what")


@pytest.mark.parametrize(
    ("value", "label", "message"),
    [(float("nan"), None, "is nan"), (-1.0, None, "is -1.0"), (1.0, "stroke", "no label")],
)
def test_a_measurement_of_nothing_makes_no_report(
    value: float,
    label: str | None,
    message: str,
    series: list[Dataset],
    hemorrhage: Callable[..., ReportContent],
) -> None:
    with pytest.raises(ObjectError, match=message):
        measured(hemorrhage(series), value, **({"label": label} if label else {}))


def test_findings_of_single_images_have_no_volume(
    series: list[Dataset], hemorrhage: Callable[..., ReportContent]
) -> None:
    content = hemorrhage(series)
    assert content.reading is not None
    findings: tuple[Finding, ...] = tuple(
        f for f in content.reading.findings if f.scope is Scope.IMAGE
    )
    alone = dataclasses.replace(content.reading, findings=findings)
    with pytest.raises(ObjectError, match="no label of the whole series"):
        measured(dataclasses.replace(content, reading=alone))


@pytest.mark.peer
@pytest.mark.slow
def test_the_validators_of_the_field_accept_it(
    validators: Any,
    tmp_path: Path,
    ct: Dataset,
    testdata: Callable[[str], Path],
    stacked: Callable[[Dataset, int], list[Dataset]],
    hemorrhage: Callable[..., ReportContent],
    masked: Callable[..., ReportContent],
    all_kinds: Callable[..., dict[str, Dataset]],
) -> None:
    sources = []
    for one in stacked(dcmread(testdata("CT_small.dcm")), 8):
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        sources.append(tmp_path / f"{one.InstanceNumber}.dcm")
        one.save_as(sources[-1])
    headers = [dcmread(path, stop_before_pixels=True) for path in sources]
    made = all_kinds(measured(masked(hemorrhage(headers), (4, 5))))
    files = {kind: object_bytes(ds) for kind, ds in made.items()}
    paths = validators.check_objects(files, sources, tmp_path)
    assert '"Volume")="12.3" (ml,UCUM,"Milliliter")' in validators.dsrdump(paths["sr"])
    validators.assert_template(files["sr"], tmp_path / "judged.dcm")


def _code(item: Dataset) -> Code:
    return Code(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)


def dcmread_copy(ds: Dataset) -> Dataset:
    from io import BytesIO

    return dcmread(BytesIO(object_bytes(ds)))
