"""Real images from DCMTK's storescu through the node into a real Orthanc, once for all tests."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
from running import (
    Node,
    Orthanc,
    sample,
    start_orthanc,
    storescu,
    under_new_uids,
    wait_for,
)

pytestmark = [pytest.mark.peer, pytest.mark.slow]

RG1 = ("RG1_UNCR", "RG1_J2KR", "RG1_UNCI", "RG1_J2KI")


@dataclass
class Sent:
    """What went in and where it is to be found."""

    node: Node
    orthanc: Orthanc
    files: dict[str, list[Path]] = field(default_factory=dict)
    reports: dict[str, Path] = field(default_factory=dict)

    def study(self, name: str) -> str:
        return str(pydicom.dcmread(self.files[name][0], stop_before_pixels=True).StudyInstanceUID)

    def findings(self, name: str) -> dict[str, dict[str, Any]]:
        done = self.node.preread(
            "results", "--study", self.study(name), "--format", "json", "--wait", "120"
        )
        assert done.returncode == 0, done.stderr
        return {found["label"]: found for found in json.loads(done.stdout)["findings"]}

    def probability(self, name: str) -> float:
        return float(self.findings(name)["pneumothorax"]["probability"])


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Sent]:
    folder = tmp_path_factory.mktemp("real")
    orthanc = start_orthanc(folder / "orthanc")
    node = Node(folder / "node")
    made = Sent(node, orthanc)
    try:
        # Reports alone: what goes along with them, tests/acceptance/test_delivery.py looks at.
        node.configure(orthanc.as_destination + 'objects = ["sr"]\n')
        node.start()
        _collect(made, folder / "files", shared_data)
        _send_and_wait(made)
        _fetch_reports(made, folder / "reports")
        yield made
        assert node.stop() == 0
    finally:
        if node.process is not None:
            node.kill_everything()
        orthanc.process.terminate()
        orthanc.process.wait(30)


def _send_and_wait(made: Sent) -> None:
    everything = [path for paths in made.files.values() for path in paths]
    random.Random(7).shuffle(everything)
    storescu(made.node.port, everything)
    made.node.wait_until_read()
    unproved = "SELECT COUNT(*) FROM v_deliveries WHERE state <> 'committed'"
    wait_for(lambda: made.node.query(unproved)[0][0] == 0, 180, "the proof of all deliveries")


def _collect(made: Sent, folder: Path, shared_data: Path) -> None:
    made.files["head"] = sorted((shared_data / "head_ct_ge").glob("*.dcm"))
    original = next((shared_data / "cxr_siim_format").glob("1.2*.dcm"))
    twin = shared_data / "cxr_siim_format" / "Fake_MONOHR1.dcm"
    made.files["siim"] = [original]
    made.files["twin"] = [under_new_uids(twin, folder / "twin.dcm", "twin")]
    for name in RG1:
        made.files[name] = [under_new_uids(sample(f"{name}.dcm"), folder / f"{name}.dcm", name)]
    made.files["ultrasound"] = [sample("US1_UNCR.dcm")]


def _fetch_reports(made: Sent, folder: Path) -> None:
    folder.mkdir()
    for number, instance in enumerate(made.orthanc.get("/instances")):
        path = folder / f"{number}.dcm"
        path.write_bytes(made.orthanc.file(instance))
        study = str(pydicom.dcmread(path).StudyInstanceUID)
        for name in made.files:
            if made.study(name) == study:
                assert name not in made.reports, f"two reports for {name}"
                made.reports[name] = path


def test_the_pacs_holds_one_report_for_each_study_that_a_model_reads(sent: Sent) -> None:
    assert set(sent.reports) == {"head", "siim", "twin", *RG1}
    for path in sent.reports.values():
        report = pydicom.dcmread(path)
        assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
        assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_the_reports_satisfy_the_validators(sent: Sent, validators: Any) -> None:
    for name, report in sent.reports.items():
        complaints = validators.dciodvfy(report)
        assert not [line for line in complaints if line.startswith("Error")], name
        assert validators.unexplained(report, sent.files[name]) == [], name
        assert validators.dcentvfy(report, sent.files[name]) == [], name
        assert "Imaging Measurement Report" in validators.dsrdump(report), name


@pytest.mark.timeout(900)  # about 12 s for each report
def test_pixelmed_finds_the_template(sent: Sent, validators: Any) -> None:
    for name, report in sent.reports.items():
        verdict = validators.pixelmed(report)
        assert verdict.found_root, name
        assert verdict.errors == [], name


def test_images_are_kept_as_sent(sent: Sent) -> None:
    # storescu itself leaves out trailing padding (FFFC,FFFC) and group lengths; everything else
    # is the same. That the bytes are those of the association is tested with `preread send`.
    for name, paths in sent.files.items():
        for path in paths:
            original = pydicom.dcmread(path)
            rows = sent.node.query(
                "SELECT path FROM instance WHERE sop_instance_uid = ?", original.SOPInstanceUID
            )
            assert len(rows) == 1, name
            kept = pydicom.dcmread(sent.node.data / rows[0][0])
            assert kept.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
            assert kept.PixelData == original.PixelData
            for element in original:
                if element.tag.element != 0 and element.tag.group != 0xFFFC:
                    assert kept[element.tag] == element, (name, element.tag)


def test_a_monochrome1_twin_reads_the_same(sent: Sent) -> None:
    assert sent.probability("twin") == sent.probability("siim")


def test_uncompressed_and_lossless_read_the_same(sent: Sent) -> None:
    assert sent.probability("RG1_J2KR") == sent.probability("RG1_UNCR")
    assert sent.probability("RG1_J2KI") == pytest.approx(sent.probability("RG1_UNCI"), abs=0.02)


def test_slices_are_ordered_by_position_with_tilt_and_spacing_recorded(sent: Sent) -> None:
    rows = sent.node.query(
        "SELECT facts FROM analysis WHERE study_instance_uid = ?", sent.study("head")
    )
    facts = json.loads(rows[0][0])
    text = json.dumps(facts)
    assert "tilt" in text, sorted(facts)
    assert "spacing" in text, sorted(facts)
    heights = {
        str(header.SOPInstanceUID): float(header.ImagePositionPatient[2])
        for header in (pydicom.dcmread(p, stop_before_pixels=True) for p in sent.files["head"])
    }
    evidence = pydicom.dcmread(sent.reports["head"]).CurrentRequestedProcedureEvidenceSequence
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for study in evidence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == set(heights)


def test_findings_are_typed(sent: Sent) -> None:
    head = sent.findings("head")
    assert set(head) == {
        "any",
        "epidural",
        "intraparenchymal",
        "intraventricular",
        "subarachnoid",
        "subdural",
    }
    for found in head.values():
        assert found["scope"] == "series"
        assert found["presence"] in ("Present", "Absent", "Undetermined")
        assert 0 <= found["threshold_low"] <= found["threshold_high"] <= 1
        assert len(found["weights_sha256"]) == 64
        assert found["sr_sop_instance_uid"]


def test_what_no_model_reads_is_parked_and_says_why(sent: Sent) -> None:
    state = sent.node.query(
        "SELECT state FROM v_studies WHERE study_instance_uid = ?", sent.study("ultrasound")
    )
    routing = sent.node.query("SELECT routing FROM v_series WHERE state = 'parked'")
    assert len(routing) == 1
    assert state == [("parked",)]
    assert "chest-frontal" in routing[0][0]


def test_the_views_answer_plain_sql(sent: Sent) -> None:
    for view in ("v_studies", "v_series", "v_findings", "v_deliveries", "v_turnaround"):
        assert sent.node.query(f"SELECT COUNT(*) FROM {view}")[0][0] > 0, view
    slowest = sent.node.query("SELECT MAX(total_seconds), MIN(total_seconds) FROM v_turnaround")
    assert 0 < slowest[0][1] <= slowest[0][0] < 300


def test_sending_a_study_again_starts_nothing(sent: Sent) -> None:
    def counts() -> list[tuple[Any, ...]]:
        return sent.node.query(
            "SELECT (SELECT COUNT(*) FROM analysis), (SELECT COUNT(*) FROM result_object), "
            "(SELECT COUNT(*) FROM delivery), (SELECT COUNT(*) FROM instance)"
        )

    before = counts()
    files = list(sent.files["head"])
    random.Random(3).shuffle(files)
    storescu(sent.node.port, files)
    sent.node.wait_until_read()
    assert counts() == before
    assert len(sent.orthanc.get("/instances")) == len(sent.reports)


def test_one_trace_leads_from_the_association_to_the_delivery(sent: Sent) -> None:
    rows = sent.node.query("SELECT DISTINCT trace_id FROM v_deliveries")
    wanted = {"association.opened", "series.completed", "analysis.requested"}
    wanted |= {"analysis.started", "analysis.ended", "delivery."}

    def missing() -> list[tuple[str, set[str]]]:
        events = sent.node.events()
        found = []
        for (trace,) in rows:
            names = {event["event"] for event in events if event.get("trace") == trace}
            names |= {"delivery." for name in names if name.startswith("delivery.")}
            found += [(trace, wanted - names)] if wanted - names else []
        return found

    try:  # each part writes its lines after its rows
        wait_for(lambda: not missing(), 60)
    except AssertionError:
        raise AssertionError(missing()) from None


def test_no_patient_data_in_the_log(sent: Sent) -> None:
    log = sent.node.log.read_text()
    for paths in sent.files.values():
        header = pydicom.dcmread(paths[0], stop_before_pixels=True)
        for keyword in ("PatientName", "PatientID", "AccessionNumber"):
            value = str(header.get(keyword, ""))
            assert len(value) < 4 or value not in log, keyword


def test_order_of_sending_changes_no_probability(
    sent: Sent, tmp_path: Path, shared_data: Path
) -> None:
    other = Node(tmp_path / "other")
    other.configure()
    other.start()
    storescu(other.port, list(reversed(sent.files["head"])))
    other.wait_until_read()
    mine = "SELECT label, scope, sop_instance_uid, probability, presence FROM v_findings "
    mine += "WHERE study_instance_uid = ? ORDER BY 1, 2, 3"
    assert other.query(mine, sent.study("head")) == sent.node.query(mine, sent.study("head"))
    assert other.stop() == 0
