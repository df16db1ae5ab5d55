"""Destinations of a whole node, what they got, and what they should have got."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from node_process import Node
from pacs import SR_3D, Pacs
from pydicom.dataset import Dataset
from running import Orthanc, data_set_bytes, data_set_of
from waiting import wait_for

from scp import Peer, send_files

SC = "1.2.840.10008.5.1.4.1.1.7"
KO = "1.2.840.10008.5.1.4.1.1.88.59"
CLASSES = (SR_3D, SC, KO)
KINDS = ("sr", "sc", "ko")


def destination(name: str, port: int, objects: Collection[str] = KINDS, **settings: Any) -> str:
    """Lines of the configuration; the back-off is short unless told otherwise.

    A PACS that answers is waited for, however slow the machine: nothing is sent twice for it.
    """
    given = {
        "name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": port,
        "objects": list(objects), "proof": "commit", "timeout": 60,
        "commit_hold_seconds": 60,
        "backoff_first_seconds": 0.3, "backoff_max_seconds": 1, **settings,
    }  # fmt: skip
    lines = (f"{key} = {json.dumps(value)}" for key, value in given.items())
    return "[[destination]]\n" + "\n".join(lines) + "\n"


def send(node: Node, *files: Path) -> None:
    report = send_files(Peer("127.0.0.1", node.port, "PREREAD", "MODALITY"), files)
    assert report.ok, report


def deliveries(node: Node, destination: str, *columns: str) -> list[tuple[Any, ...]]:
    """Columns of all deliveries to a destination."""
    sql = f"SELECT {', '.join(columns)} FROM v_deliveries WHERE destination = ?"
    return node.query(f"{sql} ORDER BY delivery_id", destination)


def wait_until_committed(node: Node, *names: str, seconds: float = 240) -> None:
    """Wait until destinations have proved that they hold everything; all has been analysed."""
    for name in names:
        wait_for(
            lambda name=name: set(deliveries(node, name, "state")) == {("committed",)},
            seconds,
            f"the proof of all objects by {name}",
        )


def wait_until_analysed(node: Node, count: int, seconds: float = 240) -> None:
    done = "SELECT COUNT(*) FROM analysis WHERE state IN ('done', 'not_analysed')"
    wait_for(lambda: node.query(done) == [(count,)], seconds, f"the end of {count} analyses")


def meant_for(node: Node, destination: str) -> dict[str, Path]:
    """Files of the objects that are delivered there, by SOP Instance UID."""
    sql = (
        "SELECT o.sop_instance_uid, o.path FROM v_objects o JOIN v_deliveries d "
        "ON d.sop_instance_uid = o.sop_instance_uid WHERE d.destination = ?"
    )
    return {uid: node.data / path for uid, path in node.query(sql, destination)}


def assert_holds_exactly(pacs: Pacs, wanted: dict[str, Path]) -> None:
    """The same objects, none more, bit for bit."""
    assert set(pacs.stored) == set(wanted)
    for uid, path in wanted.items():
        assert pacs.stored[uid] == data_set_bytes(path), uid


def orthanc_holds(orthanc: Orthanc) -> dict[str, str]:
    """Orthanc's identifiers by SOP Instance UID."""
    found = orthanc.get("/instances?expand")
    return {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in found}


def assert_orthanc_holds_exactly(orthanc: Orthanc, wanted: dict[str, Path]) -> None:
    """The same objects, none more; but for the file head, which an archive writes itself."""
    held = orthanc_holds(orthanc)
    assert set(held) == set(wanted)
    for uid, path in wanted.items():
        assert data_set_of(orthanc.file(held[uid])) == data_set_bytes(path), uid


def read_all(pacs: Pacs) -> dict[str, Dataset]:
    """What it holds, decoded."""
    return {
        uid: pydicom.dcmread(BytesIO(content), force=True) for uid, content in pacs.stored.items()
    }


def referenced(ds: Dataset) -> set[str]:
    """Every SOP Instance UID to which a data set refers, at any depth."""
    return {str(element.value) for element in _elements(ds)}


def _elements(ds: Dataset) -> Iterator[Any]:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        elif element.keyword == "ReferencedSOPInstanceUID":
            yield element


def assert_nothing_dangles(pacs: Pacs, sources: Collection[Path]) -> None:
    """Everything is there to which something refers, but for the images, which it has anyway."""
    images = {str(pydicom.dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in sources}
    for uid, ds in read_all(pacs).items():
        assert referenced(ds) - images <= set(pacs.stored), uid
