"""A real Orthanc commits what it was sent, and is away for a while; versions and corrections."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from delivered import (
    KINDS,
    assert_orthanc_holds_exactly,
    deliveries,
    destination,
    meant_for,
    orthanc_holds,
    referenced,
    send,
    wait_until_analysed,
    wait_until_committed,
)
from PIL import Image
from running import Node, Orthanc, free_port, start_orthanc, wait_for

from inference.training.phantoms.files import write_chest, write_head_series

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(900)]


class Archive:
    """An Orthanc that knows the node, and can be away."""

    def __init__(self, folder: Path, node: Node) -> None:
        self._folder, self._node = folder, node
        self.port = free_port()
        self.running: Orthanc | None = None
        self.start()

    @property
    def orthanc(self) -> Orthanc:
        assert self.running is not None
        return self.running

    def start(self) -> None:
        known = {"preread": ["PREREAD", "127.0.0.1", self._node.port]}
        self.running = start_orthanc(self._folder, self.port, DicomModalities=known)

    def stop(self) -> None:
        if self.running is not None:
            self.running.process.terminate()
            self.running.process.wait(60)
            self.running = None


@pytest.fixture
def archive(node: Node, tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path / "orthanc", node)
    node.configure(destination("archive", made.port, ae_title="ORTHANC", backoff_max_seconds=4))
    yield made
    made.stop()


def test_it_commits_and_after_an_outage_gets_what_came_meanwhile(
    node: Node, archive: Archive, tmp_path: Path
) -> None:
    node.start()
    head = write_head_series(tmp_path / "head", seed=21, bleed="subdural", size=256)
    send(node, write_chest(tmp_path / "chest", seed=13, pneumothorax=True), *head)
    wait_until_analysed(node, 2)
    wait_until_committed(node, "archive")
    assert {kind for (kind,) in deliveries(node, "archive", "kind")} == set(KINDS)
    assert set(deliveries(node, "archive", "proof", "n_attempts")) == {("commit", 1)}
    assert_orthanc_holds_exactly(archive.orthanc, meant_for(node, "archive"))
    # It never answers on the association that asked. What has its row is logged a moment later.
    wait_for(
        lambda: any(event["event"] == "commitment.answer_taken" for event in node.events()),
        60,
        "an answer in the log",
    )

    archive.stop()
    gone = time.monotonic()
    for seed in (4, 5, 6):
        send(node, write_chest(tmp_path / f"chest-{seed}", seed=seed))
    wait_until_analysed(node, 5)
    health = "SELECT state, last_error FROM v_destinations"
    wait_for(lambda: node.query(health)[0][0] == "waiting", 60, "the breaker")
    assert "cannot connect" in node.query(health)[0][1]
    time.sleep(max(0.0, 40.0 - (time.monotonic() - gone)))
    said = " ".join(node.preread("destinations").stdout.split())
    assert "waiting" in said
    assert "cannot connect" in said
    assert "pending" in node.preread("deliveries", "list", "--state", "pending").stdout
    (number,) = node.query("SELECT MIN(delivery_id) FROM v_deliveries WHERE state = 'pending'")[0]
    shown = node.preread("deliveries", "show", str(number)).stdout
    assert "why: the destination is waiting since" in shown
    assert "cannot connect" in shown

    archive.start()
    wait_until_committed(node, "archive")
    assert node.query(health) == [("working", None)]
    assert set(deliveries(node, "archive", "proof", "n_attempts")) == {("commit", 1)}
    assert_orthanc_holds_exactly(archive.orthanc, meant_for(node, "archive"))
    assert node.stop() == 0


def test_late_images_and_a_corrected_patient(node: Node, archive: Archive, tmp_path: Path) -> None:
    node.start()
    head = write_head_series(tmp_path / "head", seed=21, bleed="subdural", size=256)
    study = str(pydicom.dcmread(head[0]).StudyInstanceUID)
    send(node, *head[:18])
    wait_until_analysed(node, 1)
    send(node, *head[18:])
    wait_until_analysed(node, 2)
    wait_until_committed(node, "archive")
    reports = node.query("SELECT version, sop_instance_uid, path FROM v_objects "
                         "WHERE kind = 'sr' ORDER BY version")  # fmt: skip
    assert [version for version, _, _ in reports] == [1, 2]
    first, second = (pydicom.dcmread(node.data / path) for _, _, path in reports)
    assert referenced(second) > {str(first.SOPInstanceUID)}
    (replaced,) = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    (named,) = replaced.ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert {str(first.SOPInstanceUID), str(second.SOPInstanceUID)} < set(
        orthanc_holds(archive.orthanc)
    )

    before = set(meant_for(node, "archive"))
    done = node.preread("reissue", study, "--reason", "merge", "--patient-id", "MERGED-1")
    assert done.returncode == 0, done.stderr
    replacements = dict(line.split()[1::2] for line in done.stdout.splitlines()[:-1])
    current = node.query("SELECT sop_instance_uid FROM v_objects WHERE version = 2 "
                         "AND predecessor_id IS NULL")  # fmt: skip
    assert set(replacements) == {uid for (uid,) in current}
    wait_until_committed(node, "archive")
    assert_orthanc_holds_exactly(archive.orthanc, meant_for(node, "archive"))
    held = orthanc_holds(archive.orthanc)
    # The reader gives masks, which this archive did not ask for.
    masks = {uid for (uid,) in node.query("SELECT sop_instance_uid FROM v_objects "
                                          "WHERE kind = 'seg'")}  # fmt: skip
    sent = {old: new for old, new in replacements.items() if new not in masks}
    assert set(held) == before | set(sent.values())
    for old, new in sent.items():
        for uid, patient in ((old, "PHANTOM-HEAD-21"), (new, "MERGED-1")):
            tags = archive.orthanc.get(f"/instances/{held[uid]}/simplified-tags")
            assert tags["PatientID"] == patient
    assert node.query("SELECT patient_id FROM v_studies") == [("MERGED-1",)]
    _assert_shown(node, tmp_path)
    assert node.stop() == 0


def _assert_shown(node: Node, tmp_path: Path) -> None:
    picture, page = tmp_path / "seen.png", tmp_path / "seen.html"
    new = dict(node.query("SELECT kind, MAX(sop_instance_uid) FROM v_objects "
                          "WHERE predecessor_id IS NOT NULL GROUP BY kind"))  # fmt: skip
    assert node.preread("show", new["sc"], "--out", str(picture)).returncode == 0
    assert min(Image.open(picture).size) > 200
    assert node.preread("show", new["sr"], "--out", str(page)).returncode == 0
    assert "MERGED-1" in page.read_text()
    assert "Intracranial hemorrhage" in page.read_text()
    # The study stands for its one current report.
    ((study,),) = node.query("SELECT study_instance_uid FROM v_studies")
    again = tmp_path / "again.html"
    assert node.preread("show", study, "--out", str(again)).returncode == 0
    assert again.read_text() == page.read_text()
    assert "key images" in node.preread("show", new["ko"]).stdout


def test_what_was_replaced_while_it_waited_is_never_sent(
    node: Node, archive: Archive, tmp_path: Path
) -> None:
    archive.stop()
    node.start()
    chest = write_chest(tmp_path / "chest", seed=13, pneumothorax=True)
    study = str(pydicom.dcmread(chest).StudyInstanceUID)
    send(node, chest)
    wait_until_analysed(node, 1)
    wait_for(lambda: deliveries(node, "archive", "last_error")[-1][0], 60, "an attempt")
    assert node.preread("reissue", study, "--reason", "m", "--accession", "A2").returncode == 0
    archive.start()
    wait_for(
        lambda: (
            len(deliveries(node, "archive", "state")) == 4
            and {state for (state,) in deliveries(node, "archive", "state")}
            == {"committed", "dead"}
        ),
        120,
        "the end of all deliveries",
    )
    current = {
        uid: node.data / path
        for uid, path in node.query("SELECT sop_instance_uid, path FROM v_objects WHERE is_current")
    }
    assert len(current) == 2
    assert_orthanc_holds_exactly(archive.orthanc, current)
    dead = node.preread("deliveries", "list", "--state", "dead").stdout
    assert "replaced by" in " ".join(dead.split())
    again = node.preread("deliveries", "retry", "--all")
    assert again.stdout.strip() == "0 dead letters are pending again"
    assert "took its place" in node.preread("deliveries", "show", "1").stdout
    time.sleep(3)  # what was made pending, would be sent by now
    assert_orthanc_holds_exactly(archive.orthanc, current)
    assert node.stop() == 0


def unsuitable(folder: Path) -> list[Path]:
    """A lateral view, and a head of three slices."""
    view = write_chest(folder / "lateral", seed=7)
    image = pydicom.dcmread(view)
    image.ViewPosition = "LL"
    image.save_as(view)
    return [view, *write_head_series(folder / "few", seed=22, slices=3, size=256)]


def test_not_analysed_is_delivered_or_not_by_setting(
    node: Node, archive: Archive, tmp_path: Path
) -> None:
    images = unsuitable(tmp_path)
    # The built-in rules would not even ask for a view from the side.
    settings = destination("archive", archive.port, ae_title="ORTHANC") + (
        '[[rule]]\nname = "every-view"\nmodel = "pneumothorax"\nwhen = { Modality = "CR" }\n'
    )
    node.configure(settings)
    node.start()
    send(node, *images)
    wait_until_analysed(node, 2)
    wait_until_committed(node, "archive")
    reasons = "SELECT state, reason_code FROM v_turnaround ORDER BY reason_code"
    said = [("not_analysed", "too_few_slices"), ("not_analysed", "wrong_view")]
    assert node.query(reasons) == said
    assert sorted(kind for (kind,) in deliveries(node, "archive", "kind")) == [
        "sc",
        "sc",
        "sr",
        "sr",
    ]
    assert_orthanc_holds_exactly(archive.orthanc, meant_for(node, "archive"))
    assert node.stop() == 0

    shutil.rmtree(node.data)
    node.configure("report_not_analysed = false\n" + settings)
    node.start()
    send(node, *images)
    wait_until_analysed(node, 2)
    assert node.query(reasons) == said
    assert node.query("SELECT COUNT(*) FROM v_objects") == [(0,)]
    assert node.query("SELECT COUNT(*) FROM v_deliveries") == [(0,)]
    assert node.stop() == 0
