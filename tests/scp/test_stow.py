"""Delivery by STOW-RS: a server that reads multipart itself, and a real Orthanc."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from certificates import openssl
from outbox import Clock, Fallbacks, Outbox
from pacs import SR, SR_3D
from running import Orthanc, start_orthanc

from scp import Destination, Guards
from scp.settings import DestinationSettings

TOKEN = "secret-token-of-the-test"


class Web:
    """A DICOMweb origin server; `answer` makes status and document of what was sent."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.received: list[bytes] = []
        self.stored: dict[str, bytes] = {}
        self.headers: list[dict[str, str]] = []
        self.shown = True
        self.status = 200
        self.failures: dict[str, int] = {}
        self.drips = False
        self.says_nothing = False
        self.kind = "application/dicom+json"
        self.failed_of_nobody = False
        self.also_found: list[Any] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_POST(self) -> None:
                web.store(self)

            def do_GET(self) -> None:
                web.find(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def store(self, handler: BaseHTTPRequestHandler) -> None:
        self.headers.append(dict(handler.headers))
        if self.drips:
            self._drip(handler)
            return
        assert handler.path == "/dicom-web/studies"
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        kind = handler.headers["Content-Type"].encode()
        message = message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + body)
        assert message.get_content_type() == "multipart/related"
        assert message.get_param("type") == "application/dicom"
        boundary = str(message.get_param("boundary")).encode()
        _, part, end = body.split(b"--" + boundary)
        assert end == b"--\r\n"
        head, _, content = part.partition(b"\r\n\r\n")
        assert b"Content-Type: application/dicom" in head
        content = content.removesuffix(b"\r\n")
        self.received.append(content)
        uid = _uid_of(content)
        document: dict[str, Any] = {}
        item = {"00081155": {"vr": "UI", "Value": [uid]}}
        if (reason := self.failures.get(_class_of(content))) is not None:
            item["00081197"] = {"vr": "US", "Value": [reason]}  # type: ignore[dict-item]
            document["00081198"] = {"vr": "SQ", "Value": [item]}
        elif self.status < 300:
            self.stored[uid] = content
            document["00081199"] = {"vr": "SQ", "Value": [item]}
        if self.failed_of_nobody:
            reason_alone = {"00081197": {"vr": "US", "Value": [0x0110]}}
            document = {"00081198": {"vr": "SQ", "Value": [reason_alone]}}
        self._answer(handler, self.status, None if self.says_nothing else document)

    def find(self, handler: BaseHTTPRequestHandler) -> None:
        self.headers.append(dict(handler.headers))
        asked = parse_qs(urlsplit(handler.path).query)["SOPInstanceUID"][0]
        if not self.shown or asked not in self.stored:
            handler.send_response(204)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        self._answer(handler, 200, [*self.also_found, {"00080018": {"vr": "UI", "Value": [asked]}}])

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, document: Any) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", self.kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @staticmethod
    def _drip(handler: BaseHTTPRequestHandler) -> None:
        """Answer with a byte now and then: no read ever takes long."""
        try:
            for byte in b"HTTP/1.1 200 " + b"O" * 600:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.1)
        except OSError:
            return


def _uid_of(content: bytes) -> str:
    return _meta(content, b"\x02\x00\x03\x00UI")


def _class_of(content: bytes) -> str:
    return _meta(content, b"\x02\x00\x02\x00UI")


def _meta(content: bytes, key: bytes) -> str:
    at = content.index(key) + len(key)
    length = int.from_bytes(content[at : at + 2], "little")
    return content[at + 2 : at + 2 + length].decode().rstrip("\0")


@pytest.fixture
def web() -> Iterator[Web]:
    one = Web()
    yield one
    one.server.shutdown()
    one.server.server_close()


def sender_to(
    outbox: Outbox,
    url: str,
    clock: Clock | None = None,
    guards: Guards | None = None,
    **changes: Any,
) -> Destination:
    defaults = {
        "name": "pacs", "url": url, "timeout": 60, "proof": "find", "max_attempts": 3,
        "backoff_first_seconds": 10, "backoff_max_seconds": 15, "breaker_failures": 2,
    }  # fmt: skip
    settings = DestinationSettings.model_validate({**defaults, **changes})
    engine, files = outbox.engine, outbox.files
    return Destination(engine, files, settings, "PREREAD", clock or Clock(), guards or Guards())


def url_of(web: Web, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{web.port}/dicom-web/"


def test_the_stored_bytes_arrive_and_are_proved(outbox: Outbox, web: Web) -> None:
    uids = [outbox.put("pacs") for _ in range(2)]
    sender_to(outbox, url_of(web)).run_once()
    assert {(row.state, row.proof, row.last_status) for row in outbox.rows()} == {
        ("committed", "find", "200")
    }
    assert web.received == [outbox.file(uid).read_bytes() for uid in uids]


def test_the_token_is_read_each_time_and_never_said(
    outbox: Outbox, web: Web, tmp_path: Path, capfd: Any, caplog: Any
) -> None:
    token = tmp_path / "token"
    token.write_text("expired\n")
    outbox.put("pacs")
    clock = Clock()
    sender = sender_to(outbox, url_of(web), clock, token_file=token)
    web.status = 401
    sender.run_once()
    assert outbox.health().n_failures == 1  # who is not let in loses no attempt
    assert "401" in outbox.row().last_error
    token.write_text(f"{TOKEN}\n")
    web.status = 200
    clock.advance(20)
    sender.run_once()
    assert outbox.row().state == "committed"
    said = [headers["Authorization"] for headers in web.headers]
    assert said == ["Bearer expired", f"Bearer {TOKEN}", f"Bearer {TOKEN}"]
    captured = capfd.readouterr()
    assert TOKEN not in captured.out + captured.err + caplog.text
    token.unlink()
    outbox.put("pacs")
    sender.run_once()
    assert "token_file" in outbox.rows()[1].last_error


@pytest.mark.parametrize(
    ("status", "failures", "state", "reason"),
    [
        (202, {SR_3D: 0xA700}, "pending", "0xA700"),
        (409, {SR_3D: 0x0110}, "pending", "0x0110"),
        (409, {SR_3D: 0x0111}, "sent", None),  # it has it: these are the same bytes
        (413, {}, "pending", "413"),
        (302, {}, "pending", "302"),
        (500, {}, "pending", "500"),
    ],
)
def test_what_the_answer_says_of_the_object(
    outbox: Outbox, web: Web, status: int, failures: dict[str, int], state: str, reason: str | None
) -> None:
    outbox.put("pacs")
    web.status, web.failures = status, failures
    sender_to(outbox, url_of(web), proof="none").run_once()
    row = outbox.row()
    assert (row.state, row.n_attempts) == (state, 1)
    assert reason is None or reason in row.last_error
    assert outbox.health() is None or outbox.health().n_failures == 0


def test_an_answer_without_a_document(outbox: Outbox, web: Web) -> None:
    outbox.put("pacs")
    web.says_nothing = True
    sender_to(outbox, url_of(web)).run_once()
    assert outbox.row().state == "committed"


def test_a_page_for_people_is_no_answer(outbox: Outbox, web: Web) -> None:
    outbox.put("pacs")
    web.says_nothing, web.kind = True, "text/html; charset=utf-8"
    sender_to(outbox, url_of(web), proof="none").run_once()
    assert outbox.row().state == "pending"


def test_a_failure_that_names_nothing_is_not_taken_for_success(outbox: Outbox, web: Web) -> None:
    outbox.put("pacs")
    web.failed_of_nobody = True
    sender_to(outbox, url_of(web), proof="none").run_once()
    assert outbox.row().state == "pending"


def test_damaged_attributes_of_an_answer_are_not_looked_at(outbox: Outbox, web: Web) -> None:
    outbox.put("pacs")
    web.also_found = [
        {"00100010": {"Value": 7}, "00080018": {"Value": "1"}},
        {"0010": {"vr": "XX", "Value": [{}]}},
    ]
    sender_to(outbox, url_of(web)).run_once()
    assert outbox.row().state == "committed"


def test_not_shown_then_sent_again(outbox: Outbox, web: Web) -> None:
    uid = outbox.put("pacs")
    clock = Clock()
    sender = sender_to(outbox, url_of(web), clock)
    web.shown = False
    sender.run_once()
    assert outbox.row().state == "sent"
    web.shown = True
    clock.advance(20)
    sender.run_once()
    assert outbox.row().state == "committed"
    assert web.received == [outbox.file(uid).read_bytes()]


def test_a_server_that_takes_no_3d_report(outbox: Outbox, web: Web) -> None:
    outbox.put("pacs")
    fallbacks = Fallbacks()
    web.status, web.failures = 202, {SR_3D: 0x0122}
    sender_to(outbox, url_of(web), guards=Guards(fallback=fallbacks)).run_once()
    assert fallbacks.made == [SR]
    assert outbox.row().state == "committed"


@pytest.mark.parametrize("how", ["503", "closed"])
def test_a_server_that_is_away_costs_no_attempt(outbox: Outbox, web: Web, how: str) -> None:
    outbox.put("pacs")
    clock = Clock()
    if how == "503":
        web.status = 503
    else:
        web.server.shutdown()
        web.server.server_close()
    sender = sender_to(outbox, url_of(web), clock)
    for _ in range(6):
        sender.run_once()
        clock.advance(20)
    assert (outbox.row().state, outbox.row().n_attempts) == ("pending", 0)
    assert outbox.health().n_failures == 6
    assert outbox.health().open_until is not None


def test_a_server_that_answers_byte_by_byte_ends_at_the_time_out(outbox: Outbox, web: Web) -> None:
    outbox.put("pacs")
    web.drips = True
    begun = time.monotonic()
    sender_to(outbox, url_of(web), timeout=1).run_once()
    assert time.monotonic() - begun < 30  # it would be a minute
    assert outbox.row().state == "pending"
    assert outbox.health().n_failures == 1


def test_only_a_certificate_that_is_trusted(outbox: Outbox, tmp_path: Path) -> None:
    openssl(
        tmp_path, "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:P-256", "-subj", "/CN=pacs", "-addext",
        "subjectAltName=IP:127.0.0.1", "-keyout", "k", "-out", "c",
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c", tmp_path / "k")
    web = Web(context)
    outbox.put("pacs")
    clock = Clock()
    sender_to(outbox, url_of(web, "https"), clock).run_once()
    assert outbox.row().state == "pending"
    assert "TLS failed" in outbox.row().last_error
    clock.advance(20)
    sender_to(outbox, url_of(web, "https"), clock, ca_file=tmp_path / "c").run_once()
    assert outbox.row().state == "committed"
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    made = start_orthanc(tmp_path_factory.mktemp("orthanc"), dicom_web=True)
    yield made
    made.process.terminate()
    made.process.wait(60)


@pytest.mark.peer
def test_orthanc_keeps_what_it_was_sent(outbox: Outbox, orthanc: Orthanc) -> None:
    uids = [outbox.put("pacs") for _ in range(2)]
    sender_to(outbox, f"http://127.0.0.1:{orthanc.http_port}/dicom-web").run_once()
    assert {(row.state, row.proof) for row in outbox.rows()} == {("committed", "find")}
    kept = {orthanc.file(instance) for instance in orthanc.get("/instances")}
    assert kept == {outbox.file(uid).read_bytes() for uid in uids}
