"""Those who are told of findings: an HL7 receiver that speaks MLLP, and a web server."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FRAME = b"\x0b%s\x1c\x0d"


def fields(message: bytes, segment: str, encoding: str = "utf-8") -> list[list[str]]:
    """Fields of each such segment, split by hand: no library of the sender's."""
    lines = message.decode(encoding).split("\r")
    found = [line.split("|") for line in lines if line.startswith(segment + "|")]
    # MSH-1 is the separator itself.
    return [["MSH", "|", *one[1:]] if segment == "MSH" else one for one in found]


def acknowledgment(
    message: bytes, code: str, text: str = "", control_id: str | None = None
) -> bytes:
    (header,) = fields(message, "MSH")
    answer = (
        f"MSH|^~\\&|RECV|H|PREREAD||20260101||ACK^R01|X1|P|2.5.1\r"
        f"MSA|{code}|{control_id or header[10]}|{text}\r"
    )
    if code not in ("AA", "CA"):
        answer += f"ERR|||207^Application internal error^HL70357|E||||{text}\r"
    return FRAME % answer.encode()


Answer = Callable[[bytes], bytes | None]


@dataclass
class Hl7Receiver:
    """Takes messages; `answers` are used up in their order, then everything is accepted.

    An answer of None closes the connection without a word. `filed` holds what was accepted, by
    control id, as a receiver that knows duplicates does.
    """

    answers: list[Answer] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    filed: dict[str, bytes] = field(default_factory=dict)
    port: int = 0

    def handle(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        data = b""
        while not data.endswith(b"\x1c\x0d"):
            piece = connection.recv(65536)
            if not piece:
                return
            data += piece
        assert data.startswith(b"\x0b")
        message = data[1:-2]
        self.received.append(message)
        answer = self.answers.pop(0) if self.answers else self.accept
        reply = answer(message)
        if reply is not None:
            connection.sendall(reply)

    def accept(self, message: bytes) -> bytes:
        self.filed[fields(message, "MSH")[0][10]] = message
        return acknowledgment(message, "AA")


@contextmanager
def hl7_receiver(
    port: int = 0, context: ssl.SSLContext | None = None, **given: Any
) -> Iterator[Hl7Receiver]:
    receiver = Hl7Receiver(**given)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                if context is None:
                    receiver.handle(self.request)
                else:
                    with context.wrap_socket(self.request, server_side=True) as secured:
                        receiver.handle(secured)
            except OSError:
                return

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        receiver.port = server.server_address[1]
        with _served(server):
            yield receiver


@dataclass
class Post:
    """What a web server was sent."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebReceiver:
    """Takes POSTs; `statuses` are used up in their order, then everything is 204."""

    statuses: list[int] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    port: int = 0
    drip: bool = False


@contextmanager
def web_receiver(context: ssl.SSLContext | None = None, **given: Any) -> Iterator[WebReceiver]:
    receiver = WebReceiver(**given)
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.posts.append(Post(self.path, dict(self.headers), body))
            if receiver.drip:  # a byte now and then, for ever
                try:
                    while not stop.wait(0.1):
                        self.wfile.write(b"H")
                except OSError:
                    return
            status = receiver.statuses.pop(0) if receiver.statuses else 204
            self.send_response(status)
            if status in (301, 307):
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    with server, _served(server):
        yield receiver
        stop.set()


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
