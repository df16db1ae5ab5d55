"""Storage commitment with whole processes: a kill at the worst moment, and a real Orthanc."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from committing import CT_IMAGE, Modality, ask
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context
from running import Node, Orthanc, sample, start_orthanc, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"


def address(name: str, port: int) -> str:
    return f'[[ae]]\nname = "{name}"\nhost = "127.0.0.1"\nport = {port}\n'


@pytest.fixture
def modality() -> Iterator[Modality]:
    made = Modality()
    yield made
    made.close()


def test_the_answer_survives_a_killed_acceptor(node: Node, modality: Modality) -> None:
    """SIGKILL right after the N-ACTION response: the part that delivers answers."""
    node.configure(address("CT_ROOM_1", modality.listen()))
    node.start()
    wait_for(lambda: len(node.part_pids()) == 3, 60, "three parts")
    image = dcmread(sample("CT_small.dcm"))
    transaction = generate_uid()
    with modality.associated(node.port) as opened:
        assert opened.send_c_store(image).Status == 0
        with modality.guard:  # an answer that is faster than the kill is not taken before it
            assert ask(opened, [(CT_IMAGE, str(image.SOPInstanceUID))], transaction) == 0
            killed = [pid for name, pid in node.part_pids().items() if name.startswith("scp")]
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
    assert killed
    (heard,) = wait_for(
        lambda: [one for one in tuple(modality.heard) if not one.same_association],
        120,
        "the answer on an association of its own",
    )
    assert (heard.event_type, heard.transaction) == (1, transaction)
    assert heard.committed == [str(image.SOPInstanceUID)]
    wait_for(
        lambda: node.query("SELECT state, n_attempts FROM v_commitments") == [("reported", 1)],
        60,
        "the row",
    )
    listed = node.preread("commitments", "list", "--state", "reported", "--format", "json")
    assert [one["transaction_uid"] for one in json.loads(listed.stdout)] == [transaction]
    assert "CT_ROOM_1" in node.preread("commitments", "list").stdout


@pytest.fixture
def asking_orthanc(node: Node, tmp_path: Path) -> Iterator[Orthanc]:
    """An Orthanc that knows the node."""
    modalities = {"preread": {"AET": "PREREAD", "Host": "127.0.0.1", "Port": node.port}}
    made = start_orthanc(tmp_path / "orthanc", DicomModalities=modalities)
    yield made
    made.process.terminate()
    made.process.wait(60)


def post(orthanc: Orthanc, path: str, content: bytes) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{orthanc.http_port}{path}", data=content, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.peer
def test_orthanc_asks(node: Node, asking_orthanc: Orthanc) -> None:
    """It stores, asks, hangs up, and takes the answer on an association of ours."""
    node.configure(address("ORTHANC", asking_orthanc.dicom_port))
    node.start()
    ids = [
        post(asking_orthanc, "/instances", sample(name).read_bytes())["ID"]
        for name in ("CT_small.dcm", "MR_small.dcm")
    ]

    def commitment(*resources: str) -> Any:
        body = json.dumps({"Resources": resources}).encode()
        made = post(asking_orthanc, "/modalities/preread/storage-commitment", body)
        path = f"/storage-commitment/{made['ID']}"
        answered = wait_for(
            lambda: (found := asking_orthanc.get(path)).get("Status") != "Pending" and found,
            60,
            "the answer",
        )
        return answered

    post(asking_orthanc, "/modalities/preread/store", ids[0].encode())
    done = commitment(ids[0])
    assert done["Status"] == "Success", done
    assert [one["SOPClassUID"] for one in done["Success"]] == [CT_IMAGE]
    mixed = commitment(*ids)  # of which one was never stored
    assert mixed["Status"] == "Failure", mixed
    assert [one["FailureReason"] for one in mixed["Failures"]] == [0x0112]
    states = "SELECT state, failures FROM v_commitments ORDER BY commitment_id"
    wait_for(lambda: {row[0] for row in node.query(states)} == {"reported"}, 60, "the rows")
    assert len(node.query(states)) == 2


@pytest.mark.peer
def test_orthanc_answers(node: Node, asking_orthanc: Orthanc) -> None:
    """Its report comes on an association that it opens to this node."""
    node.start()
    opened = AE(ae_title="PREREAD").associate(
        "127.0.0.1",
        asking_orthanc.dicom_port,
        ae_title="ORTHANC",
        contexts=[build_context(STORAGE_COMMITMENT)],
    )
    transaction = generate_uid()
    assert ask(opened, [(CT_IMAGE, "1.2.3")], transaction) == 0
    opened.release()

    def taken() -> list[dict[str, Any]]:
        return [one for one in node.events() if one["event"] == "commitment.answer_taken"]

    (event, *_) = wait_for(taken, 60, "the report")
    assert (event["transaction"], event["n_failed"]) == (transaction, 1)
    assert event["known"] is False  # it was asked for by this test
