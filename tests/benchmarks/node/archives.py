"""The PACS that results go to: one of our own that notes when what came, or Orthanc."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from delivered import CLASSES, destination
from pacs import SR_3D, Pacs
from pynetdicom import evt
from running import ORTHANC, start_orthanc

OURS, ORTHANC_NAME = "own SCP", "Orthanc"
NAME = "archive"


class Archive(Protocol):
    """A PACS as a destination."""

    def lines(self, proof: str) -> str:
        """Its ``[[destination]]``."""

    def called_at(self) -> float | None:
        """When the first association since `forget` was asked for, if it can tell."""

    def forget(self) -> None:
        """Begin anew."""


class NotingPacs(Pacs):
    """The PACS of the tests, which commits on the association that asked; it notes when it was
    called. It takes 50 ms to answer a request for storage commitment."""

    def __init__(self) -> None:
        self.calls: list[float] = []
        super().__init__(CLASSES)
        self.answers = lambda _transaction, _instances: {}

    def _requested(self, event: evt.Event) -> None:
        self.calls.append(time.time())
        super()._requested(event)


@dataclass
class OwnArchive:
    """An SCP in this process."""

    pacs: NotingPacs = field(default_factory=NotingPacs)

    def lines(self, proof: str) -> str:
        settings: dict[str, Any] = {"proof": proof, "commit_hold_seconds": 5}
        return destination(NAME, self.pacs.port, ("sr", "sc"), **settings)

    def called_at(self) -> float | None:
        return self.pacs.calls[0] if self.pacs.calls else None

    def forget(self) -> None:
        self.pacs.calls.clear()

    def holds_report(self) -> bool:
        return any(SR_3D.encode() in one for one in self.pacs.stored.values())


@dataclass
class OrthancArchive:
    """A real Orthanc; it answers storage commitment on an association of its own."""

    port: int

    def lines(self, proof: str) -> str:
        settings: dict[str, Any] = {"proof": proof, "commit_hold_seconds": 5}
        return destination(NAME, self.port, ("sr", "sc"), ae_title="ORTHANC", **settings)

    def called_at(self) -> float | None:
        return None

    def forget(self) -> None:
        pass


def is_there(name: str) -> bool:
    """Whether this archive can be had on this machine."""
    return name == OURS or Path(ORTHANC).exists()


@contextmanager
def archive(name: str, folder: Path, node_port: int) -> Iterator[Archive]:
    """Run an archive that knows the node."""
    if name == OURS:
        own = OwnArchive()
        try:
            yield own
        finally:
            own.pacs.stop()
        return
    known = {"preread": ["PREREAD", "127.0.0.1", node_port]}
    orthanc = start_orthanc(folder, DicomModalities=known)
    try:
        yield OrthancArchive(orthanc.dicom_port)
    finally:
        orthanc.process.terminate()
        orthanc.process.wait(30)
