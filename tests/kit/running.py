"""A whole node as a real process, and real peers around it, for the tests that need them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

STORESCU = "/usr/bin/storescu"  # DCMTK's; pynetdicom installs one of the same name
ORTHANC = "/usr/sbin/Orthanc"
# Debian's DCMTK and Orthanc wait 40 ms for each answer without it.
PEER_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float = 60.0, what: str = "condition") -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come true within {seconds:.0f} s")


def need(program: str) -> None:
    """Skip without a peer program; in CI that is a failure."""
    if not Path(program).exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is missing")
        pytest.skip(f"{program} is not installed")


@dataclass
class Node:
    """``preread up`` in a folder of its own, or parts of it."""

    folder: Path
    port: int = field(default_factory=free_port)
    settings: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "preread.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    def configure(self, extra: str = "", scp: str = "") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'data_dir = "{self.data}"\n'
            f'[scp]\nhost = "127.0.0.1"\nport = {self.port}\nquiet_seconds = 1\n'
            f"min_free_disk_mb = 16\n{scp}\n"
            f'[log]\nformat = "json"\n[inference]\nthreads = 1\n{extra}'
        )

    def start(self, part: str = "up") -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy", part, "--config", str(self.config)],
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        wait_for(self.listens, 60, "the node's port")

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.process = None
        return status

    def kill_everything(self) -> None:
        """SIGKILL the node and every part, the parts first: nobody gets to say goodbye."""
        assert self.process is not None
        for pid in [*self.part_pids().values(), self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        wait_for(lambda: not self.listens(), 10, "the port's release")

    def part_pids(self) -> dict[str, int]:
        """Process ids of the parts that run now, from the log."""
        pids = {
            event["name"]: event["pid"]
            for event in self.events()
            if event["event"] == "part.started"
        }
        return {name: pid for name, pid in pids.items() if Path(f"/proc/{pid}").exists()}

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.data / "preread.sqlite", timeout=30)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def preread(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PREREAD_CONFIG": str(self.config),
            },
        )

    def wait_until_read(self, seconds: float = 120.0) -> None:
        busy = "SELECT COUNT(*) FROM v_studies WHERE state IN ('receiving', 'in progress')"
        some = "SELECT COUNT(*) FROM v_studies"
        wait_for(
            lambda: self.query(some)[0][0] > 0 and self.query(busy)[0][0] == 0,
            seconds,
            "the end of all analyses",
        )


@dataclass
class Orthanc:
    """A real Orthanc that takes what it is sent."""

    dicom_port: int
    http_port: int
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def file(self, instance: str) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}/instances/{instance}/file"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())

    @property
    def as_destination(self) -> str:
        return (
            '[[destination]]\nname = "orthanc"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
            f'port = {self.dicom_port}\nproof = "find"\n'
            "backoff_first_seconds = 0.5\nbackoff_max_seconds = 2\n"
        )


def start_orthanc(folder: Path, dicom_port: int | None = None) -> Orthanc:
    need(ORTHANC)
    folder.mkdir(parents=True, exist_ok=True)
    dicom, http = dicom_port or free_port(), free_port()
    config = folder / "orthanc.json"
    config.write_text(
        json.dumps(
            {
                "Name": "test",
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "DicomAet": "ORTHANC",
                "DicomPort": dicom,
                "HttpPort": http,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAlwaysAllowFind": True,
                "Plugins": [],
            }
        )
    )
    process = subprocess.Popen(
        [ORTHANC, str(config)],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "orthanc.log").open("wb"),
        env=PEER_ENVIRONMENT,
    )
    made = Orthanc(dicom, http, process)

    def answers() -> bool:
        try:
            return bool(made.get("/system"))
        except OSError:
            return False

    wait_for(answers, 60, "Orthanc")
    return made


# DCMTK's storescu proposes a compressed transfer syntax only when told to.
_PROPOSE = {
    "1.2.840.10008.1.2.4.50": ["-xy"],
    "1.2.840.10008.1.2.4.70": ["-xs"],
    "1.2.840.10008.1.2.4.90": ["-xv"],
    "1.2.840.10008.1.2.4.91": ["-xw"],
}


def storescu(
    port: int, files: Sequence[Path], called: str = "PREREAD", calling: str = "MODALITY"
) -> None:
    """Send with DCMTK's storescu as the files are, one association for each transfer syntax."""
    need(STORESCU)
    groups: dict[str, list[Path]] = {}
    for path in files:
        syntax = str(pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)
        groups.setdefault(syntax, []).append(path)
    for syntax, group in groups.items():
        titles = ["-aec", called, "-aet", calling]
        done = subprocess.run(
            [STORESCU, "-R", *_PROPOSE.get(syntax, []), *titles, "127.0.0.1", str(port), *group],
            capture_output=True,
            text=True,
            timeout=120,
            env=PEER_ENVIRONMENT,
        )
        assert done.returncode == 0, done.stderr


def sample(name: str) -> Path:
    """A real file of pydicom or of the package pydicom-data."""
    found = get_testdata_file(name, download=False)
    if not found:
        pytest.skip(f"{name} is not installed (package pydicom-data)")
    return Path(str(found))


def under_new_uids(source: Path, target: Path, name: str) -> Path:
    """Copy a file to a study of its own; the pixels stay bit for bit."""
    dataset = pydicom.dcmread(source)
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[name, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[name, "series"])
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name, "instance"])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target)
    return target


def data_set_bytes(path: Path) -> bytes:
    """The data set of a file, without preamble and file meta information."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
