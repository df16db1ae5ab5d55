"""Bad input: one clear line, the right status, nothing lost, the node still up."""

from __future__ import annotations

import socket
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from running import Node, sample, wait_for

from scp import Peer, send_files


@pytest.fixture
def running(node: Node) -> Node:
    node.configure(scp='calling_ae_allow = ["TRUSTED", "PREREAD"]')
    node.start("scp")
    return node


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def still_up(node: Node) -> bool:
    peer = Peer("127.0.0.1", node.port, "PREREAD", "TRUSTED")
    return send_files(peer, [sample("CT_small.dcm")]).ok


def test_a_text_file_is_named_and_the_others_go(running: Node, tmp_path: Path) -> None:
    text = tmp_path / "letter.dcm"
    text.write_text("Dear colleague")
    done = running.preread(
        "send", f"127.0.0.1:{running.port}", str(text), str(sample("CT_small.dcm"))
    )

    assert done.returncode == 1
    assert "letter.dcm" in one_line(done.stderr)
    assert "1 of 2 stored" in done.stdout


def test_a_truncated_file_is_named(running: Node, tmp_path: Path) -> None:
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(sample("CT_small.dcm").read_bytes()[:-5000])
    done = running.preread("send", f"127.0.0.1:{running.port}", str(cut))

    assert done.returncode == 1
    assert "cut.dcm" in one_line(done.stderr)
    assert still_up(running)


def test_a_truncated_data_set_is_refused_and_its_bytes_are_kept(running: Node) -> None:
    dataset = pydicom.dcmread(sample("CT_small.dcm"))
    whole = dataset.PixelData
    dataset.PixelData = whole[:1000]
    # The element says more bytes than follow: what a broken sender or a torn file gives.
    entity = AE("TRUSTED")
    entity.add_requested_context(dataset.SOPClassUID, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", running.port, ae_title="PREREAD")
    assert association.is_established
    import pynetdicom.association as internals

    encode = internals.encode
    internals.encode = lambda *arguments: (encode(*arguments) or b"")[:-100]
    try:
        status = association.send_c_store(dataset)
    finally:
        internals.encode = encode
    association.release()

    assert status.Status == 0xC000
    kept = list((running.data / "quarantine").iterdir())
    assert len(kept) == 1
    assert running.query("SELECT COUNT(*) FROM instance") == [(0,)]
    assert still_up(running)


def test_an_unknown_ae_title_is_rejected(running: Node) -> None:
    done = running.preread(
        "send", f"127.0.0.1:{running.port}", str(sample("CT_small.dcm")), "--calling", "STRANGER"
    )

    assert done.returncode == 1
    assert "not recognised" in done.stderr.lower() or "not recognized" in done.stderr.lower()
    assert any(event["event"] == "association.rejected" for event in running.events())
    assert still_up(running)


def test_bytes_that_are_no_dicom_do_no_harm(running: Node) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x04\x00\xff\xff\xff\xff", b""):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(garbage)
    assert still_up(running)


def test_a_wrong_setting_is_one_line(node: Node) -> None:
    node.configure(scp="prt = 1")
    for part in ("up", "scp", "worker", "deliver"):
        done = node.preread(part)
        assert done.returncode == 2
        assert "scp.prt" in one_line(done.stderr)
        assert "did you mean port?" in done.stderr


def test_a_port_in_use_is_one_line(node: Node) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", node.port))
        taken.listen()
        node.configure()
        done = node.preread("scp")

    assert done.returncode == 2
    line = one_line(done.stderr)
    assert "scp.port" in line
    assert str(node.port) in line


def test_a_node_whose_port_is_in_use_ends(node: Node) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", node.port))
        taken.listen()
        node.configure()
        done = node.preread("up")

    assert done.returncode == 2
    assert "scp.port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "named", "status"),
    [("postgresql+psycopg://127.0.0.1:1/x", "database", 75), ("nonsense", "db.url", 2)],
)
def test_a_database_that_is_not_there_is_one_line(
    node: Node, url: str, named: str, status: int
) -> None:
    node.configure(f'[db]\nurl = "{url}"\n')
    done = node.preread("up")

    assert done.returncode == status
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert named in one_line("\n".join(lines))


def test_a_full_disk_is_refused_and_recovers(node: Node) -> None:
    node.configure(scp="min_free_disk_mb = 1000000000\n")
    text = node.config.read_text().replace("min_free_disk_mb = 16\n", "")
    node.config.write_text(text)
    node.start("scp")
    peer = Peer("127.0.0.1", node.port, "PREREAD", "TEST")
    report = send_files(peer, [sample("CT_small.dcm")])
    assert not report.ok
    assert node.stop() == 0

    node.configure()
    node.start("scp")
    assert send_files(peer, [sample("CT_small.dcm")]).ok
    wait_for(lambda: node.query("SELECT COUNT(*) FROM instance") == [(1,)], 60, "the image")
