"""Real peers around a node, and real samples, for the tests that need them."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from node_process import Node, free_port
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from waiting import wait_for

__all__ = ["Node", "free_port", "wait_for"]  # from here they are imported too

STORESCU = "/usr/bin/storescu"  # DCMTK's; pynetdicom installs one of the same name
ORTHANC = "/usr/sbin/Orthanc"
ORTHANC_DICOM_WEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
# Debian's DCMTK and Orthanc wait 40 ms for each answer without it.
PEER_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def need(program: str) -> None:
    """Skip without a peer program; in CI that is a failure."""
    if not Path(program).exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is missing")
        pytest.skip(f"{program} is not installed")


@dataclass
class Orthanc:
    """A real Orthanc that takes what it is sent."""

    dicom_port: int
    http_port: int
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)

    def file(self, instance: str) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}/instances/{instance}/file"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bytes(answer.read())

    @property
    def as_destination(self) -> str:
        return (
            '[[destination]]\nname = "orthanc"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
            f'port = {self.dicom_port}\nproof = "find"\n'
            "backoff_first_seconds = 0.5\nbackoff_max_seconds = 2\n"
        )


def start_orthanc(
    folder: Path, dicom_port: int | None = None, *, dicom_web: bool = False, **changes: Any
) -> Orthanc:
    """Start an Orthanc; keyword arguments change its configuration."""
    need(ORTHANC)
    if dicom_web:
        need(ORTHANC_DICOM_WEB)
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
                # By default it gives a node ten seconds.
                "DicomScuTimeout": 60,
                "Plugins": [ORTHANC_DICOM_WEB] if dicom_web else [],
                **changes,
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
    return data_set_of(path.read_bytes())


def data_set_of(content: bytes) -> bytes:
    """The same of a file in memory."""
    return content[144 + int.from_bytes(content[140:144], "little") :]
