"""C-STORE over real associations: what is kept, what is refused, and what the ledger says."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from raw_scu import Aborted, RawAssociation, rejection
from waiting import wait_for

from db.errors import DatabaseError, StorageFullError
from db.files import FreeSpace
from scp import Peer, send_files
from scp.errors import ServerError
from scp.part10 import read_layout
from scp.requestor import Context, association
from scp.requestor import store as exchange
from scp.requestor import store_request as build_request

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


class Raw:
    """An instance given as bytes, which need not be right."""

    def __init__(self, data: bytes, uid: str, sop_class: str = CT, syntax: str = EXPLICIT) -> None:
        self.context = Context(sop_class, syntax)
        self.sop_instance_uid = uid
        self._data = data

    def data_set(self) -> bytes:
        return self._data


def send_raw(peer: Peer, *instances: Raw) -> list[int]:
    contexts = sorted({one.context for one in instances})
    with association(peer, contexts) as opened:
        ids = {str(cx.abstract_syntax): cx.context_id for cx in opened.accepted_contexts}
        return [
            exchange(opened, build_request(one, 1), ids[one.context.abstract_syntax], 60)
            for one in instances
        ]


def encoded(image: Dataset) -> bytes:
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    return content[read_layout(content).data_set_offset :]


def stored_data_set(node: Any, path: str) -> bytes:
    content = node.files.absolute(path).read_bytes()
    return content[read_layout(content).data_set_offset :]


def associate(node: Any, calling: str = "SENDER", called: str = "PREREAD") -> Association:
    client = AE(ae_title=calling)
    client.add_requested_context("1.2.840.10008.1.1")
    return client.associate("127.0.0.1", node.server.port, ae_title=called)


def test_echo(node: Any) -> None:
    opened = associate(node)
    assert opened.send_c_echo().Status == 0
    opened.release()


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "image_dfl.dcm",
        "JPEG2000.dcm", "JPEG-LL.dcm", "emri_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm",
        "SC_rgb_jpeg_dcmtk.dcm", "rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm",
        "reportsi.dcm", "emri_small_big_endian.dcm",
    ],
)  # fmt: skip
def test_bytes_are_kept_as_received(node: Any, name: str) -> None:
    source = Path(str(get_testdata_file(name)))
    report = send_files(node.peer, [source])
    assert report.ok, report
    (row,) = node.rows("SELECT * FROM instance")
    content = source.read_bytes()
    layout = read_layout(content)
    assert stored_data_set(node, row["path"]) == content[layout.data_set_offset :]
    assert row["transfer_syntax_uid"] == layout.transfer_syntax_uid
    stored = dcmread(node.files.absolute(row["path"]))
    assert stored.file_meta.TransferSyntaxUID == layout.transfer_syntax_uid
    assert stored.file_meta.MediaStorageSOPInstanceUID == stored.SOPInstanceUID
    assert stored.file_meta.SourceApplicationEntityTitle == "SENDER"


def test_unknown_and_private_sop_classes_and_syntaxes_are_kept(node: Any, image: Any) -> None:
    for sop_class, syntax in [
        ("1.2.3.4.5.6.7", EXPLICIT),
        ("1.2.840.10008.5.1.4.1.1.999", EXPLICIT),
        ("1.2.840.10008.5.1.4.1.1.6", EXPLICIT),  # retired
        (CT, "1.2.3.4.5.6.7.8"),  # a private transfer syntax
    ]:
        one = image(sop_class=sop_class)
        raw = Raw(encoded(one), one.SOPInstanceUID, sop_class, syntax)
        assert send_raw(node.peer, raw) == [0]
    assert len(node.rows("SELECT * FROM instance")) == 4


def test_same_bytes_twice_are_one_row_and_other_bytes_another(node: Any, image: Any) -> None:
    one = image()
    raw = Raw(encoded(one), one.SOPInstanceUID)
    assert send_raw(node.peer, raw, raw) == [0, 0]
    one.PixelData = b"\1" * len(one.PixelData)
    assert send_raw(node.peer, Raw(encoded(one), one.SOPInstanceUID)) == [0]
    rows = node.rows("SELECT revision, path FROM instance ORDER BY revision")
    assert [row["revision"] for row in rows] == [0, 1]
    assert rows[0]["path"] != rows[1]["path"]


def test_attributes_are_indexed(node: Any, image: Any) -> None:
    one = image(
        PatientName="Φάντασμα^Κεφάλι", StudyDate="20240102", SeriesNumber=3, InstanceNumber=7,
        StudyDescription="x" * 60 + "\0", AccessionNumber=" A1 ",
    )  # fmt: skip
    assert send_raw(node.peer, Raw(encoded(one), one.SOPInstanceUID)) == [0]
    (study,) = node.rows("SELECT * FROM study")
    assert study["patient_name"] == "Φάντασμα^Κεφάλι"
    assert study["accession_number"] == "A1"
    assert study["study_date"] == "20240102"
    assert study["study_description"] == "x" * 60
    (series,) = node.rows("SELECT * FROM series")
    assert (series["series_number"], series["modality"]) == (3, "CT")


def refused(node: Any, raw: Raw) -> int:
    before = node.quarantined()
    (status,) = send_raw(node.peer, raw)
    (kept,) = set(node.quarantined()) - set(before)
    assert kept.read_bytes().endswith(raw.data_set())
    assert not node.rows("SELECT * FROM instance")
    return status


def test_broken_data_sets_are_quarantined_and_the_node_goes_on(node: Any, image: Any) -> None:
    one = image()
    whole, uid = encoded(one), one.SOPInstanceUID
    assert refused(node, Raw(whole[:-100], uid)) == 0xC000
    assert refused(node, Raw(whole + b"\0\0\0\0", uid)) == 0xC000
    assert refused(node, Raw(b"no DICOM at all, only text", uid)) == 0xC000
    assert refused(node, Raw(whole, generate_uid())) == 0xA900
    assert refused(node, Raw(whole, uid, "1.2.840.10008.5.1.4.1.1.4")) == 0xA900
    del one.SeriesInstanceUID
    assert refused(node, Raw(encoded(one), uid)) == 0xA900
    good = image()
    assert send_raw(node.peer, Raw(encoded(good), good.SOPInstanceUID)) == [0]


def test_comment_and_offending_element(node: Any, image: Any) -> None:
    one = image()
    del one.StudyInstanceUID
    client = AE()
    client.add_requested_context(CT, EXPLICIT)
    opened = client.associate("127.0.0.1", node.server.port)
    status = opened.send_c_store(one)
    opened.release()
    assert status.Status == 0xA900
    assert status.ErrorComment == "no Study Instance UID (0020,000D)"
    assert status.OffendingElement == 0x0020000D


def test_a_path_in_a_uid_stays_in_quarantine(node: Any, image: Any) -> None:
    evil = UID("../../../etc/passwd")
    one = image()
    one.SOPInstanceUID = evil
    assert refused(node, Raw(encoded(one), evil)) == 0x0117
    assert all(path.parent == node.files.root / "quarantine" for path in node.quarantined())


@pytest.mark.parametrize(
    ("error", "status"), [(StorageFullError("full"), 0xA700), (DatabaseError("away"), 0xA701)]
)
def test_failures_of_storage_concern_one_instance(
    node: Any, image: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    one, two = image(), image()

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(node.ingest, "add", fail)
        assert send_raw(node.peer, Raw(encoded(one), one.SOPInstanceUID)) == [status]
    assert send_raw(node.peer, Raw(encoded(two), two.SOPInstanceUID)) == [0]
    assert send_raw(node.peer, Raw(encoded(one), one.SOPInstanceUID)) == [0]


def test_an_unexpected_error_is_answered(
    node: Any, image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.ingest, "add", lambda record: 1 // 0)
    one = image()
    assert send_raw(node.peer, Raw(encoded(one), one.SOPInstanceUID)) == [0x0110]


def test_disk_watermark(start_node: Any, image: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scp.receive._ASK_DISK_SECONDS", 0)
    node = start_node(min_free_disk_mb=100)
    one = image()
    raw = Raw(encoded(one), one.SOPInstanceUID)
    with association(node.peer, [raw.context]) as opened:
        monkeypatch.setattr(node.files, "free_space", lambda: FreeSpace(99 << 20, 1 << 20))
        context_id = opened.accepted_contexts[0].context_id
        assert exchange(opened, build_request(raw, 1), context_id, 60) == 0xA700
    assert rejection(node.server.port, abstract_syntax=one.SOPClassUID) == (2, 3, 1)
    opened = associate(node)
    assert opened.send_c_echo().Status == 0  # no room for images, and it is there
    opened.release()
    monkeypatch.undo()
    monkeypatch.setattr("scp.receive._ASK_DISK_SECONDS", 0)
    wait_for(lambda: send_raw(node.peer, raw) == [0])


def test_closed_list_of_calling_ae_titles(start_node: Any) -> None:
    node = start_node(calling_ae_allow=("CT*", "PACS"))
    for title in ("CT1", "PACS"):
        opened = associate(node, calling=title)
        assert opened.is_established
        opened.release()
    assert rejection(node.server.port, calling="STRANGER") == (1, 1, 3)


def test_called_ae_title(start_node: Any) -> None:
    node = start_node(called_ae_allow=("PREREAD",))
    assert rejection(node.server.port, called="OTHER") == (1, 1, 7)
    opened = associate(node)
    assert opened.is_established
    opened.release()


def test_ledger_counts_and_ends(node: Any, image: Any) -> None:
    one = image()
    whole = encoded(one)
    send_raw(node.peer, Raw(whole, one.SOPInstanceUID), Raw(whole[:-1], one.SOPInstanceUID))
    associate(node).abort()
    node.ended(2)  # its time in the ledger is later than the acceptance that the sender sees
    gone = associate(node)
    gone.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    rows = node.ended(3)
    assert [row["ended_by"] for row in rows] == ["released", "aborted", "lost"]
    first = rows[0]
    assert (first["n_received"], first["n_refused"]) == (1, 1)
    assert first["n_bytes"] == 2 * len(whole) - 1
    assert (first["calling_ae"], first["called_ae"]) == ("SENDER", "PREREAD")
    (instance,) = node.rows("SELECT association_id FROM instance")
    assert instance["association_id"] == first["id"]
    (series,) = node.rows("SELECT trace_id FROM series")
    assert series["trace_id"] == first["id"]


def test_more_associations_than_allowed(start_node: Any) -> None:
    node = start_node(max_associations=1)
    first = associate(node)
    assert rejection(node.server.port) == (2, 3, 2)
    first.release()


def test_port_in_use(node: Any, start_node: Any) -> None:
    with pytest.raises(ServerError, match=r"port \d+ on 127.0.0.1 is in use.*scp\.port"):
        start_node(port=node.server.port)


def test_stop_lets_go_on_and_then_aborts(start_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scp.server._ABORT_SECONDS", 60)  # it takes as long as it takes
    node = start_node(shutdown_seconds=0.3)
    opened = associate(node)
    assert opened.send_c_echo().Status == 0  # by then the ledger has it
    started = time.monotonic()
    node.server.stop()
    assert 0.3 <= time.monotonic() - started < 60
    wait_for(lambda: opened.is_aborted)
    (row,) = node.ended()
    assert row["ended_by"] == "aborted"


@pytest.mark.parametrize("transport", ["streaming"], indirect=True)
def test_an_association_that_is_still_open_is_told(
    start_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scp.server._ABORT_SECONDS", 60)
    node = start_node(shutdown_seconds=0.1)
    with RawAssociation(node.server.port) as opened:
        assert opened.echo() == 0
        node.server.stop()
        with pytest.raises(Aborted):
            opened.read()
        opened.accepted.clear()  # nothing to release


def test_rows_of_a_killed_process_are_closed_at_start(start_node: Any, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO association (id, acceptor, calling_ae, called_ae, peer_host,"
                " peer_port, opened_at) VALUES ('a', 'test-acceptor', 'X', 'Y', 'h', 1,"
                " '2024-01-01 00:00:00.000000')"
            )
        )
    node = start_node()
    (row,) = node.rows("SELECT ended_by FROM association")
    assert row["ended_by"] == "lost"


@pytest.mark.peer
@pytest.mark.parametrize("option", ["-xe", "-xi", "-xb", "-xd"])
def test_dcmtk_storescu(node: Any, image: Any, tmp_path: Path, option: str) -> None:
    program = shutil.which("storescu", path="/usr/bin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("DCMTK is missing")
        pytest.skip("DCMTK is not installed")
    paths = []
    for number in range(3):
        path = tmp_path / f"{number}.dcm"
        image(InstanceNumber=number).save_as(path, enforce_file_format=True)
        paths.append(str(path))
    command = [program, option, "-aet", "DCMTK", "127.0.0.1", str(node.server.port), *paths]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(node.rows("SELECT * FROM instance")) == 3
