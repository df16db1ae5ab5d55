"""Preread as real processes: a whole node, or parts of one."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from waiting import wait_for
from warm import SYNC_SECONDS, WarmProcess, WarmStart

# Below what systems give to who asks for any port (from 32768 on Linux): a connection that another
# test makes before the server is up would have it. Each process has an order of its own.
_PORTS = random.Random(os.getpid()).sample(range(10_000, 32_000), 22_000)


def free_port() -> int:
    """A port that nobody listens at, and that no other test of this process is told."""
    while True:
        port = _PORTS.pop()
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            for child in children.read_text().split():
                found += process_tree(int(child))
    return found


@dataclass
class Node:
    """``preread up`` in a folder of its own, or parts of it.

    Parameters
    ----------
    folder : Path
        Holds the configuration, the log and, unless `data_at` says otherwise, the data.
    database_url : str, optional
        A PostgreSQL database; without one it is the SQLite file in the data directory.
    warm : WarmStart, optional
        Starts parts without the seconds that importing takes.
    sync_seconds : float
        How much longer each sync takes, as on a slow disk; with `warm` only.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | WarmProcess | None = None
    database_url: str | None = None
    warm: WarmStart | None = None
    data_at: Path | None = None
    sync_seconds: float = 0.0

    @property
    def config(self) -> Path:
        return self.folder / "preread.toml"

    @property
    def data(self) -> Path:
        return self.data_at or self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    def configure(self, extra: str = "", scp: str = "") -> None:
        """Write the configuration; lines of `scp` go before the usual ones of that name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        usual = {
            "host": '"127.0.0.1"',
            "port": str(self.port),
            "quiet_seconds": "1",
            "min_free_disk_mb": "16",
        }
        given = {line.split("=")[0].strip() for line in scp.splitlines()}
        lines = [f"{name} = {value}" for name, value in usual.items() if name not in given]
        database = f'[db]\nurl = "{self.database_url}"\n' if self.database_url else ""
        self.config.write_text(
            f'data_dir = "{self.data}"\n[scp]\n{chr(10).join(lines)}\n{scp}\n'
            f'[log]\nformat = "json"\n{database}[inference]\nthreads = 1\n{extra}'
        )

    def start(self, part: str = "up") -> None:
        self.launch(part)
        wait_for(self._is_up, 200, "the node's port", every=0.02)

    def launch(self, part: str) -> None:
        """Start and return at once."""
        arguments = [part, "--config", str(self.config)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        if self.sync_seconds:
            assert self.warm is not None
            environment[SYNC_SECONDS] = str(self.sync_seconds)
        if self.warm is not None:
            self.process = self.warm.start(arguments, self.log, self.folder, environment)
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(arguments),
                stderr=log,
                cwd=self.folder,
                env=environment,
            )

    def command(self, arguments: Sequence[str]) -> list[str]:
        """What runs Preread."""
        return [sys.executable, "-m", "deploy", *arguments]

    def _is_up(self) -> bool:
        status = self.process.poll() if self.process else None
        assert status is None, (
            f"the node ended with status {status}: {self.log.read_text()[-2000:]}"
        )
        return self.listens()

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        # A node gives its parts a minute before it kills them.
        status = self.process.wait(120)
        self.process = None
        return status

    def kill_everything(self) -> None:
        """SIGKILL the node and every part, the parts first: nobody gets to say goodbye."""
        assert self.process is not None
        # Or it would start parts anew that were killed before it.
        self.process.send_signal(signal.SIGSTOP)
        for pid in [*self.part_pids().values(), self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        wait_for(lambda: not self.listens(), 60, "the port's release")

    def part_pids(self) -> dict[str, int]:
        """Process ids of the parts that run now, from the log."""
        pids = {
            event["name"]: event["pid"]
            for event in self.events()
            if event["event"] == "part.started"
        }
        return {name: pid for name, pid in pids.items() if Path(f"/proc/{pid}").exists()}

    def events(self) -> list[dict[str, Any]]:
        """What the log says so far; a last line that is being written is left out."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run SQL with ``?`` for parameters, on whichever database the node has."""
        with self.database() as connection:
            if self.database_url is not None:
                sql = sql.replace("?", "%s")
            return list(connection.execute(sql, parameters).fetchall())

    @contextmanager
    def database(self) -> Iterator[Any]:
        """A connection of the database's own driver."""
        if self.database_url is not None:
            connection: Any = psycopg.connect(self.database_url.replace("+psycopg", ""))
        else:
            connection = sqlite3.connect(self.data / "preread.sqlite", timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def preread(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy", *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PREREAD_CONFIG": str(self.config),
            },
        )

    def wait_until_read(self, seconds: float = 240.0) -> None:
        busy = "SELECT COUNT(*) FROM v_studies WHERE state IN ('receiving', 'in progress')"
        some = "SELECT COUNT(*) FROM v_studies"
        wait_for(
            lambda: self.query(some)[0][0] > 0 and self.query(busy)[0][0] == 0,
            seconds,
            "the end of all analyses",
        )
