"""A PACS that sends everything it receives back to where the results came from."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from running import Node, Orthanc, start_orthanc, wait_for

from inference.training.phantoms.files import write_chest
from scp import Peer, send_files

pytestmark = [pytest.mark.slow, pytest.mark.peer]

# Orthanc calls this for every instance that is new to it, whoever sent it.
_SEND_BACK = """
function OnStoredInstance(instanceId, tags, metadata)
   SendToModality(instanceId, "preread")
end
"""


@pytest.fixture
def echoing(node: Node, tmp_path: Path) -> Any:
    folder = tmp_path / "echo"
    folder.mkdir()
    script = folder / "send_back.lua"
    script.write_text(_SEND_BACK)
    made = start_orthanc(
        folder,
        more={
            "LuaScripts": [str(script)],
            "OverwriteInstances": True,
            "DicomModalities": {"preread": ["PREREAD", "127.0.0.1", node.port]},
        },
    )
    yield made
    made.process.terminate()
    made.process.wait(30)


def send(port: int, called: str, *files: Path) -> None:
    report = send_files(Peer("127.0.0.1", port, called, "MODALITY"), files)
    assert report.ok, report


def equal_ones(node: Node) -> int:
    return int(node.query("SELECT COALESCE(SUM(n_equal), 0) FROM association")[0][0])


@pytest.mark.parametrize("objects", [["sr"]], ids="+".join)
def test_results_and_images_that_come_back_start_nothing(
    node: Node, echoing: Orthanc, tmp_path: Path, objects: list[str]
) -> None:
    node.configure(echoing.as_destination + f"objects = {json.dumps(objects)}\n")
    node.start()
    chest = write_chest(tmp_path / "chest", seed=3, pneumothorax=True)
    # As in a hospital: the PACS has the images too, and routes them to the node.
    send(node.port, "PREREAD", chest)
    send(echoing.dicom_port, "ORTHANC", chest)
    done = "SELECT COUNT(*) FROM v_deliveries WHERE state = 'committed'"
    wait_for(lambda: node.query(done) == [(len(objects),)], 120, "the results in the PACS")
    received = "SELECT COUNT(*) FROM instance"
    wait_for(lambda: node.query(received) == [(1 + len(objects),)], 60, "the results' return")
    wait_for(lambda: equal_ones(node) == 1, 60, "the images' return")

    # And once more by hand: whatever is there goes back, the images to both.
    for instance in echoing.get("/instances"):
        again = tmp_path / f"{instance}.dcm"
        again.write_bytes(echoing.file(instance))
        send(node.port, "PREREAD", again)
    send(echoing.dicom_port, "ORTHANC", chest)
    wait_for(lambda: equal_ones(node) >= 3 + len(objects) - 1, 60, "the return of all")
    wait_for(
        lambda: node.query("SELECT COUNT(*) FROM series WHERE state = 'open'") == [(0,)],
        60,
        "the completion of all series",
    )
    time.sleep(2)  # nothing is to come; what would come, would be here

    assert node.query("SELECT COUNT(*) FROM analysis") == [(1,)]
    assert node.query("SELECT COUNT(*) FROM result_object") == [(len(objects),)]
    assert node.query("SELECT COUNT(*) FROM v_deliveries") == [(len(objects),)]
    assert node.query(received) == [(1 + len(objects),)], "no revisions"
    assert len(echoing.get("/instances")) == 1 + len(objects)
    routing = "SELECT routing FROM v_series WHERE state = 'parked'"
    reasons = [json.loads(row[0])["reasons"] for row in node.query(routing)]
    assert len(reasons) == len(objects)
    assert all(one[0].startswith("never read: ") for one in reasons)
    assert node.stop() == 0


def test_results_under_ever_new_names_are_bounded(node: Node, tmp_path: Path) -> None:
    """Nothing is left of what made them ours: the images of a study go on changing."""
    import pydicom

    node.configure("max_analyses_per_study_per_day = 2\n")
    node.start()
    chest = write_chest(tmp_path / "chest", seed=3)
    for number in range(4):
        image = pydicom.dcmread(chest)
        image.ImageComments = f"coerced {number}"
        image.save_as(chest)
        send(node.port, "PREREAD", chest)
        wait_for(
            lambda: node.query("SELECT COUNT(*) FROM series WHERE state = 'open'") == [(0,)],
            60,
            "the completion of the series",
        )
        node.wait_until_read()
    assert node.query("SELECT COUNT(*) FROM analysis") == [(2,)]
    bounded = [event for event in node.events() if event["event"] == "analysis.bounded"]
    assert [event["level"] for event in bounded] == ["error", "error"]
    (routing,) = node.query("SELECT routing FROM v_series")[0]
    assert "inference.max_analyses_per_study_per_day" in json.loads(routing)["reasons"][-1]
    assert node.stop() == 0
