"""Published files are fetched once, from where they may be, and only if they are the right ones."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inference.public import download
from inference.public.download import DownloadError, cache_dir, fetch

DATA = b"weights" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


class Publisher(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - emptied by the fixture

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/weights.pt")
            self.end_headers()
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.1/weights.pt")
            self.end_headers()
        elif self.path in ("/weights.pt", "/short"):
            self.send_response(200)
            more = 10 if self.path == "/short" else 0
            self.send_header("Content-Length", str(len(DATA) + more))
            self.end_headers()
            self.wfile.write(DATA)
        else:
            self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def publisher() -> Iterator[str]:
    Publisher.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_is_fetched_once_and_kept_by_its_digest(publisher: str, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch(f"{publisher}/moved", tmp_path, SHA256.upper(), lambda *of: told.append(of))
    assert path.read_bytes() == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert fetch(f"{publisher}/moved", tmp_path, SHA256) == path
    assert Publisher.asked == ["/moved", "/weights.pt"]
    assert kept(tmp_path) == [f"{SHA256}.pt"]


def test_without_a_digest_it_is_trusted_and_its_digest_told(publisher: str, tmp_path: Path) -> None:
    assert fetch(f"{publisher}/weights.pt", tmp_path).stem == SHA256


def test_a_wrong_digest_is_told_and_nothing_kept(publisher: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as told:
        fetch(f"{publisher}/weights.pt", tmp_path, "0" * 64)
    assert SHA256 in str(told.value) and "0" * 64 in str(told.value)
    assert kept(tmp_path) == []


def test_a_kept_file_that_changed_is_fetched_anew(publisher: str, tmp_path: Path) -> None:
    fetch(f"{publisher}/weights.pt", tmp_path, SHA256).write_bytes(b"other")
    assert fetch(f"{publisher}/weights.pt", tmp_path, SHA256).read_bytes() == DATA


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/away", "Not Found"),
        ("/short", f"it ended after {len(DATA)} of {len(DATA) + 10} bytes"),
    ],
)
def test_what_cannot_be_fetched_says_the_way_out(
    path: str, reason: str, publisher: str, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=reason) as told:
        fetch(publisher + path, tmp_path)
    assert "curl -LO" in str(told.value) and "--file" in str(told.value)
    assert kept(tmp_path) == []


def test_without_a_network_it_says_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:  # nobody else listens there meanwhile
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/weights.pt"
        with pytest.raises(DownloadError, match=r"Connection refused.*give it with --file"):
            fetch(url, tmp_path, SHA256)


def test_no_redirection_leaves_https(publisher: str, tmp_path: Path) -> None:
    for url in (f"{publisher}/elsewhere", "http://192.0.2.1/w", "file:///etc/passwd", "ftp://x/y"):
        with pytest.raises(DownloadError, match="is no https address"):
            fetch(url, tmp_path)


def test_a_file_without_end_is_given_up(
    publisher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LARGEST", 100)
    with pytest.raises(DownloadError, match="has more than"):
        fetch(f"{publisher}/weights.pt", tmp_path)
    assert kept(tmp_path) == []


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "preread" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "preread" / "models"
