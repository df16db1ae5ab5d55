"""C-STORE and C-ECHO through TLS, on both transports."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificates
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def node(start_node: Any, folder: Path) -> Any:
    return start_node(tls_certificate=folder / "node.c", tls_key=folder / "node.k")


def client_context(folder: Path, identity: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "root")
    if identity is not None:
        context.load_cert_chain(folder / f"{identity}.c", folder / f"{identity}.k")
    return context


def associate(node: Any, context: ssl.SSLContext | None) -> Association:
    client = AE(ae_title="SENDER")
    client.acse_timeout = client.network_timeout = 60
    client.add_requested_context(VERIFICATION)
    client.add_requested_context(CT_IMAGE, "1.2.840.10008.1.2.1")
    arguments = None if context is None else (context, "localhost")
    return client.associate("127.0.0.1", node.server.port, tls_args=arguments)


def test_images_come_through_tls_bit_for_bit(node: Any, image: Any, folder: Path) -> None:
    sent = [image(rows=rows) for rows in (16, 512, 1500)]
    opened = associate(node, client_context(folder))
    assert opened.is_established
    assert [opened.send_c_store(one).Status for one in sent] == [0, 0, 0]
    assert opened.send_c_echo().Status == 0
    opened.release()

    paths = {row["sop_instance_uid"]: row["path"] for row in node.rows("SELECT * FROM instance")}
    for one in sent:
        kept = dcmread(node.files.absolute(paths[one.SOPInstanceUID]))
        assert kept == one
    (row,) = node.ended()
    assert (row["ended_by"], row["n_received"]) == ("released", 3)


def test_who_speaks_no_tls_holds_nothing_up(start_node: Any, folder: Path) -> None:
    node = start_node(
        tls_certificate=folder / "node.c", tls_key=folder / "node.k", acse_timeout=600
    )
    with ExitStack() as idle:
        for said in (b"", b"\1\0\0\0\0\4", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
            for _ in range(5):
                address = ("127.0.0.1", node.server.port)
                idle.enter_context(socket.create_connection(address)).sendall(said)
        assert not associate(node, None).is_established
        started = time.monotonic()
        opened = associate(node, client_context(folder))
        assert opened.is_established
        assert time.monotonic() - started < 60
        opened.release()
    assert node.rows("SELECT count(*) AS n FROM association")[0]["n"] == 1


def test_a_sender_without_the_certificate_asked_for_is_turned_away(
    start_node: Any, folder: Path
) -> None:
    node = start_node(
        tls_certificate=folder / "node.c", tls_key=folder / "node.k", tls_ca=folder / "root"
    )
    assert not associate(node, client_context(folder)).is_established
    opened = associate(node, client_context(folder, "sender"))
    assert opened.is_established
    opened.release()


def test_a_sender_that_is_gone_inside_an_image_leaves_nothing(
    node: Any, image: Any, folder: Path
) -> None:
    opened = associate(node, client_context(folder))
    connection = opened.dul.socket.socket
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 1, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT_IMAGE, "1.2.3"
    primitive.DataSet = BytesIO(encode(image(rows=1024), False, True) or b"")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    pdus = [P_DATA_TF(part).encode() for part in message.encode_msg(3, 16384)]
    connection.sendall(b"".join(pdus[:50]))
    time.sleep(0.3)
    connection.shutdown(socket.SHUT_RDWR)
    (row,) = node.ended()
    assert row["ended_by"] == "lost"
    assert node.server.n_open == 0
    assert list(node.files.images()) == []


def test_stop_ends_associations_under_tls(start_node: Any, folder: Path) -> None:
    node = start_node(
        tls_certificate=folder / "node.c", tls_key=folder / "node.k", shutdown_seconds=0.2
    )
    opened = associate(node, client_context(folder))
    assert opened.is_established
    started = time.monotonic()
    node.server.stop()
    assert time.monotonic() - started < 60
    opened.abort()
    (row,) = node.ended()
    assert row["ended_by"] in ("aborted", "lost")
