"""SIGKILL of any part at any time: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import generate_uid
from running import Node, Orthanc, data_set_bytes, sample, wait_for

from inference.training.phantoms.files import write_head_series
from scp import Peer, send_files

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]


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
        report = send_files(Peer("127.0.0.1", node.port, "PREREAD", "TEST"), [path])
        if report.ok:
            stored.append(path)
    return stored


def send_together(node: Node, files: list[Path]) -> None:
    """Send in one association: while it is open no series of theirs is complete."""
    report = send_files(Peer("127.0.0.1", node.port, "PREREAD", "TEST"), files)
    assert report.ok, report


def kill_scp(node: Node) -> None:
    """Kill the part that receives and wait until the next one listens."""
    killed = node.part_pids()["scp"]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: node.part_pids().get("scp", killed) != killed, 120, "the next SCP")
    wait_for(node.listens, 120, "its port")


def worker_starts(node: Node) -> list[dict[str, Any]]:
    return [event for event in node.events() if event["event"] == "worker.started"]


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
        200,
        "the end of every analysis",
    )
    wait_for(
        lambda: (
            node.query("SELECT COUNT(*) FROM delivery WHERE state = 'committed'")[0][0] == studies
        ),
        120,
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
    send_together(node, files)
    wait_for(
        lambda: any(event["event"] == "analysis.started" for event in node.events()),
        150,
        "a start",
        every=0.02,
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
    kill_scp(node)
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
    wait_for(lambda: node.query("SELECT COUNT(*) FROM instance")[0][0] >= 2, 60, "two images")
    kill_scp(node)
    sender.join()

    assert stored
    assert_kept(node, stored)
    # The port is bound, then what the kill left open is closed and cleared away.
    still_open = "SELECT COUNT(*) FROM association WHERE ended_at IS NULL"
    wait_for(lambda: node.query(still_open) == [(0,)], 60, "the end of the lost association")
    wait_for(lambda: not list((node.data / "incoming").iterdir()), 60, "the end of its image")
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
    # What a killed one had in hand is left alone for minutes: as if these had passed.
    with node.database() as connection:
        connection.execute("UPDATE delivery SET leased_until = NULL, next_attempt_at = '2000'")
        connection.commit()

    node.start()
    assert_kept(node, stored)
    assert_everything_done_once(node, orthanc, len(chest_files))
    assert node.stop() == 0


def test_a_part_that_dies_while_the_database_is_busy_comes_back(node: Node) -> None:
    node.configure()
    node.start()
    wait_for(lambda: len(node.part_pids()) == 3, 60, "three parts")
    worker = node.part_pids()["worker"]
    holder = sqlite3.connect(node.data / "preread.sqlite", timeout=60, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    os.kill(worker, signal.SIGKILL)
    time.sleep(45)  # longer than any part waits for the lock
    assert node.listens()
    n_started = len(worker_starts(node))  # none starts before the lock is free
    holder.execute("ROLLBACK")
    holder.close()

    wait_for(lambda: len(worker_starts(node)) > n_started, 150, "a worker")
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
    send_together(node, files)
    node.wait_until_read()

    assert_kept(node, files)
    assert node.query("SELECT COUNT(*) FROM analysis") == [(0,)]
    assert node.query("SELECT DISTINCT has_conflict, n_instances FROM v_studies") == [(1, 1)]
    assert "several studies or patients" in node.query("SELECT routing FROM series")[0][0]
    assert node.stop() == 0
