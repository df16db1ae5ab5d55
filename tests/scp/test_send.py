"""The C-STORE SCU: files on disk to a peer, bytes unchanged, one line for what cannot be sent."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.acse import ACSE
from waiting import wait_for

from scp import Peer, send_files
from scp.errors import AssociationError
from scp.find import holds_instance
from scp.part10 import read_layout

CT = "1.2.840.10008.5.1.4.1.1.2"


@contextmanager
def listening(handlers: list[Any], contexts: list[Any]) -> Iterator[Peer]:
    """A plain pynetdicom SCP."""
    entity = AE(ae_title="PACS")
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=handlers, contexts=contexts
    )
    assert server is not None
    try:
        yield Peer("127.0.0.1", server.server_address[1], "PACS", "PREREAD")
    finally:
        for association in server.active_associations:
            association.abort()
        server.shutdown()


def save(tmp_path: Path, image: Any) -> Path:
    path = tmp_path / f"{image.SOPInstanceUID}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def test_bad_files_are_reported_and_the_others_sent(node: Any, image: Any, tmp_path: Path) -> None:
    good = save(tmp_path, image())
    text = tmp_path / "text.dcm"
    text.write_text("I am no image")
    empty = tmp_path / "empty.dcm"
    empty.touch()
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(good.read_bytes()[:-10])
    missing = tmp_path / "missing.dcm"
    told: list[Path] = []
    report = send_files(
        node.peer, [text, cut, empty, missing, good], lambda outcome: told.append(outcome.path)
    )
    assert not report.ok
    assert report.failure is None
    assert sorted(told) == sorted([text, cut, empty, missing, good])
    errors = {outcome.path: outcome.error for outcome in report.outcomes}
    assert errors[good] is None
    assert "not a DICOM file" in str(errors[text])
    assert "truncated in (7FE0,0010)" in str(errors[cut])
    assert "not a DICOM file" in str(errors[empty])
    assert "No such file" in str(errors[missing])
    assert all("\n" not in str(error) for error in errors.values())
    assert len(node.rows("SELECT 1 FROM instance")) == 1


def test_wrong_uids_in_the_file_meta_do_not_matter(node: Any, image: Any, tmp_path: Path) -> None:
    one = image()
    one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    assert send_files(node.peer, [save(tmp_path, one)]).ok
    (row,) = node.rows("SELECT sop_instance_uid FROM instance")
    assert row["sop_instance_uid"] == one.SOPInstanceUID


def test_more_contexts_than_one_association_holds(node: Any, image: Any, tmp_path: Path) -> None:
    paths = [save(tmp_path, image(sop_class=f"1.2.3.{number}")) for number in range(130)]
    assert send_files(node.peer, paths).ok
    assert len(node.rows("SELECT 1 FROM instance")) == 130
    assert len(node.rows("SELECT 1 FROM association")) == 2


def test_large_object_in_many_pdus(start_node: Any, image: Any, tmp_path: Path) -> None:
    node = start_node(max_pdu=16384)
    one = image(rows=1024)
    assert send_files(node.peer, [save(tmp_path, one)]).ok
    (row,) = node.rows("SELECT path FROM instance")
    content = node.files.absolute(row["path"]).read_bytes()
    assert content.endswith(one.PixelData)


def test_refused_by_the_peer(image: Any, tmp_path: Path) -> None:
    path = save(tmp_path, image())
    refuse = [(evt.EVT_C_STORE, lambda event: 0xA700)]
    with listening(refuse, [build_context(CT, "1.2.840.10008.1.2.1")]) as peer:
        report = send_files(peer, [path])
    assert report.outcomes[0].status == 0xA700
    assert "0xA700" in str(report.outcomes[0].error)


def test_a_class_that_the_peer_does_not_take(
    image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The peer runs in this process, where a node may have switched this on.
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)
    taken, other = save(tmp_path, image()), save(tmp_path, image(sop_class="1.2.3"))
    accept = [(evt.EVT_C_STORE, lambda event: 0)]
    with listening(accept, [build_context(CT, "1.2.840.10008.1.2.1")]) as peer:
        alone = send_files(peer, [other])
        both = send_files(peer, [other, taken])
    assert "none of the presentation contexts" in str(alone.failure)
    errors = {outcome.path: outcome.error for outcome in both.outcomes}
    assert errors[taken] is None
    assert "does not accept 1.2.3 in Explicit VR Little Endian" in str(errors[other])


def test_a_peer_that_aborts_over_one_file(image: Any, tmp_path: Path) -> None:
    images = [image() for _ in range(3)]
    paths = [save(tmp_path, one) for one in images]

    def handle(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == images[1].SOPInstanceUID:
            event.assoc.abort()
        return 0

    with listening([(evt.EVT_C_STORE, handle)], [build_context(CT, "1.2.840.10008.1.2.1")]) as peer:
        report = send_files(peer, paths)
    assert [outcome.ok for outcome in report.outcomes] == [True, False, True]


def test_nobody_there(image: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        report = send_files(Peer("127.0.0.1", port, "PACS", "PREREAD"), [save(tmp_path, image())])
    assert report.failure == f"PACS at 127.0.0.1:{port}: cannot connect"
    assert not report.ok


def test_rejected(start_node: Any, image: Any, tmp_path: Path) -> None:
    node = start_node(calling_ae_allow=("FRIEND",))
    report = send_files(node.peer, [save(tmp_path, image())])
    assert "Calling AE title not recognised (rejected permanent)" in str(report.failure)


@pytest.mark.parametrize("greeting", [b"", b"\2\0\0\0\x10\0half a PDU"])
def test_a_peer_that_says_nothing_or_half_a_word(
    image: Any, tmp_path: Path, greeting: bytes
) -> None:
    path = save(tmp_path, image())
    is_told = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)
                is_told.wait(250)

        threading.Thread(target=serve, daemon=True).start()
        peer = Peer("127.0.0.1", server.getsockname()[1], "PACS", "PREREAD", timeout=0.5)
        started = time.monotonic()
        report = send_files(peer, [path])
        is_told.set()
    assert time.monotonic() - started < 100
    assert report.failure is not None


def test_a_peer_that_never_answers_the_store(image: Any, tmp_path: Path) -> None:
    is_told = threading.Event()
    path = save(tmp_path, image())

    def handle(event: evt.Event) -> int:
        is_told.wait(250)
        return 0

    with listening([(evt.EVT_C_STORE, handle)], [build_context(CT, "1.2.840.10008.1.2.1")]) as peer:
        quick = Peer(peer.host, peer.port, peer.called_ae, peer.calling_ae, timeout=0.5)

        def send() -> Any:
            report = send_files(quick, [path])
            # A slow machine does not always accept the association in half a second.
            return report if report.failure is None else None

        started = time.monotonic()
        report = wait_for(send)
        is_told.set()
        assert time.monotonic() - started < 100
    assert "before the C-STORE was answered" in str(report.outcomes[0].error)


def test_find(image: Any) -> None:
    one = image()

    def handle(event: evt.Event) -> Iterator[Any]:
        if event.identifier.SOPInstanceUID == one.SOPInstanceUID:
            yield 0xFF00, event.identifier

    root = "1.2.840.10008.5.1.4.1.2.2.1"
    with listening([(evt.EVT_C_FIND, handle)], [build_context(root)]) as peer:
        held = holds_instance(peer, "1.2", "1.2.3", one.SOPInstanceUID)
        other = holds_instance(peer, "1.2", "1.2.3", "1.2.3.4")
    assert (held, other) == (True, False)
    broken = [(evt.EVT_C_FIND, lambda event: iter([(0xA700, None)]))]
    failed = pytest.raises(AssociationError, match="0xA700")
    with listening(broken, [build_context(root)]) as peer, failed:
        holds_instance(peer, "1.2", "1.2.3", "1.2.3.4")


@pytest.mark.peer
def test_dcmtk_storescp_keeps_the_same_bytes(tmp_path: Path) -> None:
    program = shutil.which("storescp", path="/usr/bin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("DCMTK is missing")
        pytest.skip("DCMTK is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sources = [
        Path(str(get_testdata_file(n))) for n in ("CT_small.dcm", "JPEG2000.dcm", "rtplan.dcm")
    ]
    # +xa: accept all transfer syntaxes; +B: write exactly what was read.
    scp = subprocess.Popen(
        [program, "+xa", "+B", "-od", str(tmp_path), str(port)],
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    try:
        peer = Peer("127.0.0.1", port, "STORESCP", "PREREAD", timeout=60)

        def send() -> Any:
            report = send_files(peer, sources)
            return report if report.failure is None else None

        report = wait_for(send, what="storescp")
        assert report.ok, report
    finally:
        scp.terminate()
        scp.wait(60)
    kept = {path.read_bytes()[-2000:] for path in tmp_path.iterdir()}
    assert len(kept) == 3
    for source in sources:
        content = source.read_bytes()
        data_set = content[read_layout(content).data_set_offset :]
        assert any(one.endswith(data_set[-2000:]) for one in kept)


def test_a_rejection_faster_than_the_requestor_is_told(
    start_node: Any, image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pynetdicom closes the connection before it has looked whether there was one."""
    request = ACSE.send_request

    def send_and_wait(acse: ACSE) -> None:
        request(acse)
        deadline = time.monotonic() + 60
        while not acse.dul._kill_thread and time.monotonic() < deadline:
            time.sleep(0.001)

    monkeypatch.setattr(ACSE, "send_request", send_and_wait)
    node = start_node(calling_ae_allow=("OTHER",))
    report = send_files(node.peer, [save(tmp_path, image())])
    assert "rejected: Calling AE title not recognised" in str(report.failure)
