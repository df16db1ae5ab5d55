"""The programs that receive, each with a folder of its own and a fresh storage."""

from __future__ import annotations

import itertools
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from load import Target
from postgres import PostgresServer
from processes import PeerError, Process, free_port, listens, program

from deploy.settings import load as load_settings

ROOT = Path(__file__).parents[3]
# Debian's DCMTK and Orthanc wait 40 ms for each answer without it.
NO_DELAY = {"TCP_NODELAY": "1"}
_NO_VARIABLES: Mapping[str, str] = {}


TITLES: Mapping[str, str] = {
    "storescp": "DCMTK storescp",
    "orthanc": "Orthanc",
    "reactor": "Preread, pynetdicom's reactor",
    "preread": "Preread, SQLite",
    "preread-pg": "Preread, PostgreSQL",
}


class Peer:
    """A running SCP. Leaving the ``with`` block ends it and deletes what it holds.

    Parameters
    ----------
    folder : Path
        Of its own; exists.
    command : sequence of str
    target : Target
        Where it listens.
    environment : mapping
        Added to this process's.
    """

    def __init__(
        self, folder: Path, command: Sequence[str], target: Target, environment: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.target = target
        self.n_expected = 0
        self._process = Process(command, folder / "log", environment)

    def wait(self) -> None:
        """Return when it accepts associations; raise PeerError if it never does."""
        self._process.wait_for(self.is_ready, f"listening on port {self.target.port}")

    def is_ready(self) -> bool:
        return listens(self.target.port)

    def pids(self) -> list[int]:
        """Return its processes."""
        return self._process.pids()

    def n_files(self) -> int:
        """Return how many image files it holds."""
        raise NotImplementedError

    def n_rows(self) -> int:
        """Return how many images its index holds; the number of files where it has none."""
        return self.n_files()

    def check(self) -> None:
        """Raise PeerError unless it holds all that it acknowledged, as files and as rows."""
        held = self.n_files(), self.n_rows()
        if held != (self.n_expected, self.n_expected):
            raise PeerError(
                f"{self.target.called_ae} acknowledged {self.n_expected} images and holds "
                f"{held[0]} files and {held[1]} rows"
            )

    def settle(self) -> None:
        """Leave nothing to do on the disk for whoever is measured next."""
        os.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        empty(self.folder)


def empty(folder: Path) -> None:
    """Give the space of all files below a folder back, but let the files stay.

    For minutes after a file was deleted, ext4 looks past its inode whenever a file is made, which
    takes longer than making the file. What is measured next would have to do that.
    """
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            os.truncate(path, 0)


class Storescp(Peer):
    """DCMTK's storescp: a process per association, bytes as read, nothing synced, no index."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = _NO_VARIABLES) -> None:
        self._images = folder / "images"
        self._images.mkdir()
        target = Target(free_port(), "STORESCP")
        options = ["--fork", "--bit-preserving", "--accept-all", "--promiscuous"]
        options += ["--disable-host-lookup", "--aetitle", target.called_ae]
        options += ["--output-directory", str(self._images), str(target.port)]
        command = [program("storescp"), *options]
        super().__init__(folder, command, target, {**NO_DELAY, **environment})

    def n_files(self) -> int:
        return sum(1 for _ in self._images.iterdir())

    def settle(self) -> None:
        """Empty what came before it is written: it would be written while others are measured."""
        empty(self._images)
        super().settle()


class Orthanc(Peer):
    """Orthanc with SQLite; syncs each file, as by default, and has threads for all associations."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] = _NO_VARIABLES,
        *,
        n_threads: int = 128,
    ) -> None:
        self._storage, self._http = folder / "storage", free_port()
        target = Target(free_port(), "ORTHANC")
        settings = {
            "Name": "benchmark",
            "StorageDirectory": str(self._storage),
            "IndexDirectory": str(self._storage),
            "StorageCompression": False,
            "SyncStorageArea": True,
            "DicomAet": target.called_ae,
            "DicomPort": target.port,
            "DicomThreadsCount": n_threads,
            "HttpPort": self._http,
            "RemoteAccessAllowed": False,
            "StableAge": 86400,
            "Plugins": [],
        }
        config = folder / "orthanc.json"
        config.write_text(json.dumps(settings))
        command = [program("Orthanc"), str(config)]
        super().__init__(folder, command, target, {**NO_DELAY, **environment})

    def is_ready(self) -> bool:
        return listens(self.target.port) and listens(self._http)

    def n_files(self) -> int:
        # Files lie two levels deep; those of the index lie above them.
        return sum(1 for path in self._storage.glob("*/*/*") if path.is_file())

    def n_rows(self) -> int:
        url = f"http://127.0.0.1:{self._http}/statistics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(json.load(answer)["CountInstances"])


class Preread(Peer):
    """The part of Preread that receives, as ``preread scp`` starts it.

    Parameters
    ----------
    settings : mapping
        Of ``[scp]``.
    server : PostgresServer, optional
        Without one: SQLite.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] = _NO_VARIABLES,
        *,
        settings: Mapping[str, object] | None = None,
        server: PostgresServer | None = None,
    ) -> None:
        self.data = folder / "data"
        self._server = server
        self.url = server.create_database() if server else f"sqlite:///{self.data}/preread.sqlite"
        target = Target(free_port(), "PREREAD")
        scp: dict[str, object] = {
            "host": target.host,
            "port": target.port,
            "min_free_disk_mb": 64,
            # Routing opens files again; here it is receiving that is measured.
            "quiet_seconds": 3600,
            **(settings or {}),
        }
        self._config = folder / "preread.toml"
        lines = [f"{name} = {json.dumps(value)}" for name, value in scp.items()]
        self._config.write_text(
            f'data_dir = "{self.data}"\n[db]\nurl = "{self.url}"\n'
            '[log]\nformat = "json"\n[scp]\n' + "\n".join(lines) + "\n"
        )
        command = [sys.executable, "-m", "deploy", "scp", "--config", str(self._config)]
        super().__init__(folder, command, target, {"PYTHONPATH": str(ROOT), **environment})

    def is_ready(self) -> bool:
        # Several processes may share the port.
        listening = sum(event["event"] == "scp.started" for event in self.log())
        return listening >= load_settings(self._config).n_acceptors and super().is_ready()

    def n_files(self) -> int:
        return sum(1 for _ in (self.data / "images").rglob("*.dcm"))

    def n_rows(self) -> int:
        engine = sa.create_engine(self.url)
        try:
            with engine.connect() as connection:
                return int(connection.exec_driver_sql("SELECT COUNT(*) FROM instance").scalar_one())
        finally:
            engine.dispose()

    def log(self) -> list[dict[str, Any]]:
        """Return the events that it logged."""
        # The last line may not be written to its end yet.
        whole, _, _ = (self.folder / "log").read_text(errors="replace").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        if self._server is not None:
            self._server.drop_database(self.url)


_NUMBERS = itertools.count(1)  # of the folders, which stay until the end


class Field:
    """Starts peers by name, each in a new folder below `folder`.

    Parameters
    ----------
    folder : Path
    server : PostgresServer, optional
        For the peer that needs one.
    """

    def __init__(self, folder: Path, server: PostgresServer | None) -> None:
        self._folder = folder
        self._server = server

    def start(self, name: str, environment: Mapping[str, str] = _NO_VARIABLES) -> Peer:
        """Start a peer; `Peer.wait` tells when it is ready."""
        folder = self._folder / f"{next(_NUMBERS)}-{name}"
        folder.mkdir()
        starts: Mapping[str, Callable[[], Peer]] = {
            "storescp": lambda: Storescp(folder, environment),
            "orthanc": lambda: Orthanc(folder, environment),
            "reactor": lambda: Preread(folder, environment, settings={"transport": "pynetdicom"}),
            "preread": lambda: Preread(folder, environment),
            "preread-pg": lambda: Preread(folder, environment, server=self._server),
        }
        return starts[name]()

    def start_preread(
        self, settings: Mapping[str, object], environment: Mapping[str, str], *, on_postgres: bool
    ) -> Preread:
        """Start Preread with settings of ``[scp]``."""
        folder = self._folder / f"{next(_NUMBERS)}-preread"
        folder.mkdir()
        server = self._server if on_postgres else None
        return Preread(folder, environment, settings=settings, server=server)
