"""SIGKILL of any part at any time: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from running import Node, Orthanc, data_set_bytes, sample, wait_for

from inference.training.phantoms.files import write_head_series
from scp import Peer, send_files

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="module")
def chest_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve chest studies."""
    folder = tmp_path_factory.mktemp("chests")
    dataset = pydicom.dcmread(sample("RG1_UNCR.dcm"))
    files = []
    for number in range(12):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, keyword, generate_uid(entropy_srcs=[keyword, str(number)]))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        files.append(folder / f"{number}.dcm")
        dataset.save_as(files[-1])
    return files


def acknowledged(node: Node, files: list[Path]) -> list[Path]:
    """Send one association per file; return those that were answered with success."""
    stored: list[Path] = []
    for path in files:
        report = send_files(Peer("127.0.0.1", node.port, "PREREAD", "TEST", 10.0), [path])
        if report.ok:
            stored.append(path)
    return stored


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def assert_kept(node: Node, files: list[Path]) -> None:
    for path in files:
        rows = node.query("SELECT path FROM instance WHERE sop_instance_uid = ?", uid_of(path))
        assert len(rows) == 1
        assert data_set_bytes(node.data / rows[0][0]) == data_set_bytes(path)


def assert_everything_done_once(node: Node, orthanc: Orthanc, studies: int) -> None:
    wait_for(
        lambda: node.query("SELECT COUNT(*) FROM analysis WHERE state = 'done'")[0][0] == studies,
        120,
        "the end of every analysis",
    )
    wait_for(
        lambda: (
            node.query("SELECT COUNT(*) FROM delivery WHERE state = 'committed'")[0][0] == studies
        ),
        60,
        "the proof of every delivery",
    )
    assert node.query("SELECT COUNT(*) FROM analysis") == [(studies,)]
    assert node.query(
        "SELECT COUNT(*), COUNT(DISTINCT analysis_id) FROM result_object WHERE kind = 'sr'"
    ) == [(studies, studies)]
    assert node.query("SELECT COUNT(DISTINCT analysis_id) FROM finding") == [(studies,)]
    assert len(orthanc.get("/instances")) == studies
    assert node.query("PRAGMA integrity_check") == [("ok",)]


def test_the_worker_is_killed_during_an_analysis(
    node: Node, orthanc: Orthanc, tmp_path: Path
) -> None:
    files = write_head_series(tmp_path / "head", seed=21, bleed=None)
    node.configure(orthanc.as_destination + 'objects = ["sr"]\n')
    node.start()
    assert acknowledged(node, files) == list(files)
    wait_for(
        lambda: any(event["event"] == "analysis.started" for event in node.events()), 60, "a start"
    )
    os.kill(node.part_pids()["worker"], signal.SIGKILL)

    assert_everything_done_once(node, orthanc, 1)
    starts = [event for event in node.events() if event["event"] == "analysis.started"]
    assert len(starts) >= 2, "the analysis had ended before the kill"
    assert node.stop() == 0


def test_the_scp_is_killed_between_images(
    node: Node, orthanc: Orthanc, chest_files: list[Path]
) -> None:
    node.configure(orthanc.as_destination + 'objects = ["sr"]\n')
    node.start()
    first = acknowledged(node, chest_files[:4])
    os.kill(node.part_pids()["scp"], signal.SIGKILL)
    wait_for(lambda: not node.listens(), 10, "the end of the SCP")
    wait_for(node.listens, 30, "the restart of the SCP")
    second = acknowledged(node, chest_files[4:])

    assert len(first + second) == len(chest_files)
    assert_kept(node, first + second)
    assert_everything_done_once(node, orthanc, len(chest_files))
    assert node.stop() == 0


def test_the_scp_is_killed_while_images_come(node: Node, chest_files: list[Path]) -> None:
    node.configure()
    node.start()
    stored: list[Path] = []
    sender = threading.Thread(target=lambda: stored.extend(acknowledged(node, chest_files)))
    sender.start()
    wait_for(lambda: node.query("SELECT COUNT(*) FROM instance")[0][0] >= 2, 30, "two images")
    os.kill(node.part_pids()["scp"], signal.SIGKILL)
    sender.join()
    wait_for(node.listens, 30, "the restart of the SCP")

    assert stored
    assert_kept(node, stored)
    # The port is bound, then what the kill left open is closed, then associations are served.
    still_open = "SELECT COUNT(*) FROM association WHERE ended_at IS NULL"
    wait_for(lambda: node.query(still_open) == [(0,)], 30, "the end of the lost association")
    assert list((node.data / "incoming").iterdir()) == []
    assert node.stop() == 0


def test_the_whole_node_is_killed_with_work_queued(
    node: Node, orthanc: Orthanc, chest_files: list[Path]
) -> None:
    node.configure(orthanc.as_destination + 'objects = ["sr"]\n')
    node.start()
    stored = acknowledged(node, chest_files)
    assert len(stored) == len(chest_files)
    wait_for(lambda: node.query("SELECT COUNT(*) FROM analysis")[0][0] >= 3, 60, "queued work")
    node.kill_everything()
    time.sleep(0.5)

    node.start()
    assert_kept(node, stored)
    assert_everything_done_once(node, orthanc, len(chest_files))
    assert node.stop() == 0


def test_a_part_that_dies_while_the_database_is_busy_comes_back(node: Node) -> None:
    node.configure()
    node.start()
    wait_for(lambda: len(node.part_pids()) == 3, 30, "three parts")
    worker = node.part_pids()["worker"]
    holder = sqlite3.connect(node.data / "preread.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    os.kill(worker, signal.SIGKILL)
    time.sleep(45)  # longer than any part waits for the lock
    assert node.listens()
    holder.execute("ROLLBACK")
    holder.close()

    wait_for(
        lambda: any(event["event"] == "worker.started" for event in reversed(node.events()[-20:])),
        90,
        "a worker",
    )
    assert acknowledged(node, [sample("CT_small.dcm")])
    assert node.stop() == 0


def test_images_of_two_patients_under_one_series_are_kept_and_not_read(
    node: Node, chest_files: list[Path], tmp_path: Path
) -> None:
    first = pydicom.dcmread(chest_files[0])
    other = pydicom.dcmread(chest_files[1])
    other.SeriesInstanceUID = first.SeriesInstanceUID
    other.PatientID = "ANOTHER"
    other.save_as(tmp_path / "other.dcm")
    node.configure()
    node.start()
    files = [chest_files[0], tmp_path / "other.dcm"]
    assert acknowledged(node, files) == files
    node.wait_until_read()

    assert_kept(node, files)
    assert node.query("SELECT COUNT(*) FROM analysis") == [(0,)]
    assert node.query("SELECT DISTINCT has_conflict, n_instances FROM v_studies") == [(1, 1)]
    assert "several studies or patients" in node.query("SELECT routing FROM series")[0][0]
    assert node.stop() == 0
