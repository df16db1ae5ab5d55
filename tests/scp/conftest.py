"""A running SCP on a free port, over SQLite in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from outbox import Outbox
from pacs import Pacs
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import _config
from waiting import wait_for

from db import FileStore, create_engine
from db.ingest import Ingest
from db.schema import Base
from scp.requestor import Peer
from scp.server import StorageServer
from scp.settings import ScpSettings

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(autouse=True)
def _every_peer_is_as_strict_as_it_says() -> None:
    """A node of an earlier test has switched this on, for all that the process accepts."""
    _config.UNRESTRICTED_STORAGE_SERVICE = False


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@dataclass
class Node:
    """A server with everything it was built from."""

    server: StorageServer
    engine: sa.Engine
    files: FileStore
    settings: ScpSettings
    ingest: Ingest

    @property
    def peer(self) -> Peer:
        return Peer("127.0.0.1", self.server.port, self.settings.ae_title, "SENDER", timeout=60)

    def rows(self, sql: str) -> list[Any]:
        assert self.ingest.flush(60)
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(sql)).mappings())

    def ended(self, n: int = 1) -> list[Any]:
        """Return rows of the ledger in time, once so many associations have ended.

        A release is answered, and a place is free, before the ledger has the end.
        """
        sql = "SELECT * FROM association WHERE ended_at IS NOT NULL ORDER BY opened_at"

        def rows() -> list[Any] | None:
            found = self.rows(sql)
            return found if len(found) >= n else None

        return list(wait_for(rows, what=f"the end of {n} associations", every=0.02))

    def wait_until_all_ended(self) -> None:
        """Wait until the ledger has the end of every association that it has."""
        is_open = "SELECT 1 FROM association WHERE ended_at IS NULL"
        wait_for(lambda: not self.rows(is_open), what="the end of all associations", every=0.01)

    def quarantined(self) -> list[Path]:
        return sorted((self.files.root / "quarantine").iterdir())


StartNode = Callable[..., Node]


@pytest.fixture(params=["streaming", "pynetdicom"])
def transport(request: pytest.FixtureRequest) -> str:
    """Both transports: whatever runs on a node runs on each."""
    return str(request.param)


@pytest.fixture
def start_node(engine: sa.Engine, files: FileStore, transport: str) -> Iterator[StartNode]:
    """Start servers with other settings than the default ones."""
    servers: list[StorageServer] = []
    ingest = Ingest(engine)

    def start(**changes: Any) -> Node:
        defaults: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "min_free_disk_mb": 0,
            "shutdown_seconds": 1,
            "transport": transport,
        }
        settings = ScpSettings(**{**defaults, **changes})
        server = StorageServer(settings, files, ingest, "test-acceptor")
        server.start()
        servers.append(server)
        return Node(server, engine, files, settings, ingest)

    yield start
    for server in servers:
        server.stop()
    ingest.close()


@pytest.fixture
def node(start_node: StartNode) -> Node:
    return start_node()


def make_image(
    series: str | None = None, *, rows: int = 16, sop_class: str = CT_IMAGE, **attributes: Any
) -> Dataset:
    """Return a small image of a phantom; keyword arguments set further attributes."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = sop_class
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID = generate_uid(entropy_srcs=["study", series or ""])
    image.SeriesInstanceUID = series or generate_uid()
    image.PatientName = "PHANTOM^HEAD"
    image.PatientID = "PHANTOM-1"
    image.Modality = "CT"
    image.BodyPartExamined = "HEAD"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.InstanceNumber = 1
    image.Rows = image.Columns = rows
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.SamplesPerPixel = 1
    image.PixelRepresentation = 0
    image.PhotometricInterpretation = "MONOCHROME2"
    image.PixelData = bytes(2 * rows * rows)
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


@pytest.fixture
def image() -> Callable[..., Dataset]:
    """The factory of small images."""
    return make_image


@pytest.fixture
def outbox(engine: sa.Engine, files: FileStore, tmp_path: Path) -> Outbox:
    """An empty outbox."""
    return Outbox(engine, files, make_image, tmp_path)


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    one = Pacs()
    yield one
    one.stop()
