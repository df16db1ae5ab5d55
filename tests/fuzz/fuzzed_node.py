"""A storage SCP in this process that is sent anything, and what must hold of it afterwards."""

from __future__ import annotations

import gc
import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from answers import Answers, exchange, judge, read_answers
from kept import data_set_of
from model import Stored

from db import FileStore, create_engine
from db.ingest import Ingest
from db.schema import Base
from scp.listen import configure_acceptor
from scp.server import StorageServer
from scp.settings import ScpSettings
from scp.transport import StreamingAssociation

Transport = Literal["streaming", "pynetdicom"]
_MEMORY = Path("/dev/shm")
_JOIN_SECONDS = 120.0


class FuzzedNode:
    """A server over SQLite.

    Attributes
    ----------
    complete : set of str
        SHA-256 of every data set that was sent as a whole: nothing else may be kept.
    """

    def __init__(self, folder: Path, transport: Transport) -> None:
        self.complete: set[str] = set()
        self.acknowledged: dict[str, set[str]] = {}
        self.n_acknowledged = 0
        self._guard = threading.Lock()
        self._engine = create_engine(f"sqlite:///{folder / 'preread.sqlite'}")
        Base.metadata.create_all(self._engine)
        self.files = FileStore(folder / "data")
        self.files.prepare()
        self._ingest = Ingest(self._engine)
        settings = ScpSettings(
            host="127.0.0.1",
            port=0,
            min_free_disk_mb=0,
            shutdown_seconds=1,
            transport=transport,
            # pynetdicom's reactor holds on to some connections for as long.
            acse_timeout=60 if transport == "streaming" else 10,
            network_timeout=60 if transport == "streaming" else 10,
        )
        self.server = StorageServer(settings, self.files, self._ingest, "fuzzed")
        self.server.start()

    def close(self) -> None:
        self.server.stop()
        self._ingest.close()
        self._engine.dispose()

    def converse(self, data: bytes) -> Answers:
        """Hold a conversation over a pair of sockets, with an association of its own."""
        return self._judge(data, self.answers_to(data))

    def answers_to(self, data: bytes) -> bytes:
        """Return what comes back in such a conversation."""
        listener: Any = self.server._listener
        ours, theirs = socket.socketpair()
        with ours:
            association = StreamingAssociation(
                listener.ae, theirs, self.server._store, listener.negotiations
            )
            configure_acceptor(association, listener, ("127.0.0.1", 104))
            association.start()
            got = exchange(ours, data)
        association.join(_JOIN_SECONDS)
        assert not association.is_alive(), "the association does not end"
        return got

    def connect(self, data: bytes) -> Answers:
        """Hold a conversation over TCP."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as ours:
            got = exchange(ours, data)
        return self._judge(data, got)

    def _judge(self, data: bytes, got: bytes) -> Answers:
        answers = read_answers(got)
        understood, acknowledged = judge(data, answers)
        with self._guard:
            self.complete |= {digest(one.data) for one in understood.stored}
            for one in acknowledged:
                self.acknowledged.setdefault(one.sop_instance_uid, set()).add(digest(one.data))
                self.n_acknowledged += 1
        for one in acknowledged:
            self._assert_kept(one)
        return answers

    def _assert_kept(self, one: Stored) -> None:
        assert one.sop_instance_uid.replace(".", "").isdigit()
        folder = self.files.root / "images" / digest(one.sop_instance_uid.encode())[:2]
        kept = [data_set_of(path) for path in folder.glob(f"{one.sop_instance_uid}.*dcm")]
        assert one.data in kept, "acknowledged, but not kept bit for bit"

    def assert_consistent(self) -> None:
        """Nothing half received, nothing that nobody sent, a row for whatever was acknowledged."""
        assert self._ingest.flush(60)
        root = self.files.root
        assert not list((root / "incoming").iterdir())
        kept = {path: digest(data_set_of(path)) for path in self.files.images()}
        assert set(kept.values()) <= self.complete
        quarantined = {digest(data_set_of(path)) for path in (root / "quarantine").iterdir()}
        assert quarantined <= self.complete
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT sop_instance_uid, sha256, path FROM instance"
            )
            rows = {(uid, sha256): path for uid, sha256, path in found}
        for uid, digests in self.acknowledged.items():
            for sha256 in digests:
                assert kept[root / rows[uid, sha256]] == sha256
        assert self.server.n_open == 0


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def fuzzed_node(transport: Transport = "streaming") -> Iterator[FuzzedNode]:
    """Start a node; after the conversations assert that it is as it was before them."""
    at = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=at) as folder:
        node = FuzzedNode(Path(folder), transport)
        try:
            node.connect(b"")
            before = resources()
            yield node
            _assert_back_to(before, node)
            node.assert_consistent()
        finally:
            node.close()


def resources() -> SimpleNamespace:
    gc.collect()
    # On a slow disk `db.syncs` has helpers, a bounded number, that stay.
    threads = [one for one in threading.enumerate() if one.name != "sync"]
    return SimpleNamespace(
        n_threads=len(threads), n_descriptors=len(list(Path("/proc/self/fd").iterdir()))
    )


def _assert_back_to(before: SimpleNamespace, node: FuzzedNode, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = resources()
        # The database keeps up to two connections of three descriptors each.
        if (
            now.n_threads <= before.n_threads
            and now.n_descriptors <= before.n_descriptors + 8
            and not node.server.n_open
        ):
            return
        time.sleep(0.1)
    raise AssertionError(f"before {before}, now {now}, {node.server.n_open} associations open")
