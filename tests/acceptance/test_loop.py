"""A PACS that sends everything it receives back to where the results came from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from delivered import (
    deliveries,
    destination,
    meant_for,
    wait_until_analysed,
    wait_until_committed,
)
from running import Node, Orthanc, start_orthanc, wait_for

from inference.training.phantoms.files import write_chest, write_head_series
from scp import Peer, send_files

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(900)]

# Orthanc calls this for every instance that is new to it, whoever sent it.
_SEND_BACK = """
function OnStoredInstance(instanceId, tags, metadata)
   SendToModality(instanceId, "preread")
end
"""
_GROWS = ("analysis", "result_object", "delivery", "instance", "series")


@pytest.fixture
def echoing(node: Node, tmp_path: Path) -> Any:
    folder = tmp_path / "echo"
    folder.mkdir()
    script = folder / "send_back.lua"
    script.write_text(_SEND_BACK)
    made = start_orthanc(
        folder,
        **{
            "LuaScripts": [str(script)],
            "OverwriteInstances": True,
            "DicomModalities": {"preread": ["PREREAD", "127.0.0.1", node.port]},
        },
    )
    yield made
    made.process.terminate()
    made.process.wait(60)


def send(port: int, called: str, *files: Path) -> None:
    report = send_files(Peer("127.0.0.1", port, called, "MODALITY"), files)
    assert report.ok, report


def equal_ones(node: Node) -> int:
    return int(node.query("SELECT COALESCE(SUM(n_equal), 0) FROM association")[0][0])


def chest(folder: Path) -> list[Path]:
    return [write_chest(folder, seed=13, pneumothorax=True)]


def head(folder: Path) -> list[Path]:
    return write_head_series(folder, seed=21, bleed="subdural", size=256)


def counts(node: Node) -> dict[str, int]:
    return {table: node.query(f"SELECT COUNT(*) FROM {table}")[0][0] for table in _GROWS}


def wait_until_complete(node: Node) -> None:
    wait_for(
        lambda: node.query("SELECT COUNT(*) FROM series WHERE state = 'open'") == [(0,)],
        60,
        "the completion of all series",
    )


@pytest.mark.parametrize(
    ("study", "kinds"),
    [(chest, {"sr", "sc"}), (head, {"sr", "sc", "ko", "seg"})],
    ids=["chest", "head"],
)
def test_results_and_images_that_come_back_start_nothing(
    node: Node,
    echoing: Orthanc,
    tmp_path: Path,
    study: Callable[[Path], list[Path]],
    kinds: set[str],
) -> None:
    node.configure(
        destination("pacs", echoing.dicom_port, ("sr", "sc", "ko", "seg"), ae_title="ORTHANC")
    )
    node.start()
    images = study(tmp_path / "study")
    # As in a hospital: the PACS has the images too, and routes them to the node.
    send(node.port, "PREREAD", *images)
    send(echoing.dicom_port, "ORTHANC", *images)
    wait_until_analysed(node, 1)
    wait_until_committed(node, "pacs")
    assert set(deliveries(node, "pacs", "proof")) == {("commit",)}
    wanted = meant_for(node, "pacs")
    assert {kind for (kind,) in deliveries(node, "pacs", "kind")} == kinds
    n_all = len(images) + len(wanted)
    received = "SELECT COUNT(*) FROM instance"
    wait_for(lambda: node.query(received) == [(n_all,)], 120, "the results' return")
    wait_for(lambda: equal_ones(node) == len(images), 120, "the images' return")

    # And once more by hand: whatever is there goes back, the images to both.
    held = []
    for instance in echoing.get("/instances"):
        held.append(tmp_path / f"{instance}.dcm")
        held[-1].write_bytes(echoing.file(instance))
    send(node.port, "PREREAD", *held)
    send(echoing.dicom_port, "ORTHANC", *images)
    wait_for(lambda: equal_ones(node) == n_all + 2 * len(images), 120, "the return of all")
    wait_until_complete(node)
    before = counts(node)
    time.sleep(20)  # nothing is to come; what would come, would be here

    assert counts(node) == before
    assert equal_ones(node) == n_all + 2 * len(images)
    assert before["analysis"] == 1
    assert before["result_object"] == before["delivery"] == len(wanted)
    assert before["instance"] == n_all, "no revisions"
    held_uids = {one["MainDicomTags"]["SOPInstanceUID"] for one in echoing.get("/instances?expand")}
    assert len(held_uids) == n_all
    assert set(wanted) < held_uids
    routing = "SELECT routing FROM v_series WHERE state = 'parked'"
    reasons = [json.loads(row[0])["reasons"] for row in node.query(routing)]
    assert len(reasons) == len(kinds)  # a series of each
    assert all(one[0].startswith("never read: ") for one in reasons)
    assert node.stop() == 0


def test_results_under_ever_new_names_are_bounded(node: Node, tmp_path: Path) -> None:
    """Nothing is left of what made them ours: the images of a study go on changing."""
    import pydicom

    node.configure("max_analyses_per_study_per_day = 2\n")
    node.start()
    (path,) = chest(tmp_path / "chest")
    for number in range(4):
        image = pydicom.dcmread(path)
        image.ImageComments = f"coerced {number}"
        image.save_as(path)
        send(node.port, "PREREAD", path)
        wait_until_complete(node)
        node.wait_until_read()
    assert node.query("SELECT COUNT(*) FROM analysis") == [(2,)]
    bounded = [event for event in node.events() if event["event"] == "analysis.bounded"]
    assert [event["level"] for event in bounded] == ["error", "error"]
    (routing,) = node.query("SELECT routing FROM v_series")[0]
    assert "inference.max_analyses_per_study_per_day" in json.loads(routing)["reasons"][-1]
    assert node.stop() == 0
