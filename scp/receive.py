"""C-STORE: event in, status out.

Success is answered only when the file, its directory entry and its row are on disk. Bytes are kept
as they came, behind a file head that names the negotiated transfer syntax. What cannot be kept as
an instance is kept in quarantine, so that nothing a sender delivered is lost with its refusal.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import structlog
from pydicom.dataset import Dataset

from db.errors import DatabaseError, StorageFullError
from db.files import FileStore
from db.ingest import Ingest, InstanceRecord

from . import header
from .errors import IdentityError, InvalidInstanceError, ScpError
from .header import Header, is_uid, read_header
from .part10 import file_head
from .status import StoreStatus, failure

_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """One C-STORE request, free of pynetdicom."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes | memoryview
    association_id: str
    calling_ae: str


@dataclass(frozen=True, slots=True)
class DiskWatermark:
    """Tells whether there is room for more images; asking costs a few microseconds."""

    files: FileStore
    min_free_bytes: int

    def has_room(self) -> bool:
        """Return False when less than `min_free_bytes` is left; also if that cannot be told."""
        try:
            return self.files.free_bytes() >= self.min_free_bytes
        except OSError:
            return False


class Receiver:
    """Keeps instances.

    Parameters
    ----------
    files, ingest
        Where bytes and rows go.
    disk : DiskWatermark
        Asked before every image.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        files: FileStore,
        ingest: Ingest,
        disk: DiskWatermark,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._files = files
        self._ingest = ingest
        self._disk = disk
        self._clock = clock

    def receive(self, request: StoreRequest) -> int | Dataset:
        """Keep one instance; return the status to answer, never raise."""
        log = _LOG.bind(trace=request.association_id, instance=request.sop_instance_uid[:64])
        try:
            self._keep(request)
        except (ScpError, DatabaseError) as error:
            return self._refuse(request, error, log)
        except Exception as error:
            log.exception("instance.failed")
            return self._refuse(request, error, log)
        log.debug("instance.stored", n_bytes=len(request.data_set))
        return int(StoreStatus.SUCCESS)

    def _keep(self, request: StoreRequest) -> None:
        if not self._disk.has_room():
            raise StorageFullError("less disk space than scp.min_free_disk_mb is left")
        if not is_uid(request.sop_instance_uid):
            raise InvalidInstanceError("the Affected SOP Instance UID is no UID")
        found = read_header(request.data_set, request.transfer_syntax_uid)
        _require_match(found, request)
        head = file_head(
            found.sop_class_uid,
            found.sop_instance_uid,
            request.transfer_syntax_uid,
            request.calling_ae,
        )
        stored = self._files.write_image(found.sop_instance_uid, head, request.data_set)
        self._ingest.add(
            InstanceRecord(
                **asdict(found),
                transfer_syntax_uid=request.transfer_syntax_uid,
                path=stored.path,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                received_at=self._clock(),
                association_id=request.association_id,
            )
        )

    def _refuse(
        self, request: StoreRequest, error: Exception, log: structlog.stdlib.BoundLogger
    ) -> Dataset:
        response = failure(error)
        kept = None
        # What the sender is asked to send again need not be kept; on a full disk it cannot be.
        if not isinstance(error, DatabaseError):
            kept = self._quarantine(request, log)
        log.warning(
            "instance.refused",
            status=f"0x{response.Status:04X}",
            reason=str(error) if isinstance(error, ScpError | DatabaseError) else "internal error",
            quarantined=kept,
        )
        return response

    def _quarantine(self, request: StoreRequest, log: structlog.stdlib.BoundLogger) -> str | None:
        name = f"{self._clock():%Y%m%dT%H%M%S}-{uuid.uuid4().hex}"
        syntax = request.transfer_syntax_uid
        head = file_head(
            request.sop_class_uid, request.sop_instance_uid, syntax, request.calling_ae
        )
        try:
            return self._files.quarantine(name, [head, request.data_set])
        except (DatabaseError, OSError) as error:
            log.error("quarantine.failed", error=type(error).__name__)
            return None


def _require_match(found: Header, request: StoreRequest) -> None:
    """Require the UIDs of the command and of the data set to be equal (PS3.4 Section B.2.3)."""
    if found.sop_instance_uid != request.sop_instance_uid:
        raise IdentityError(
            "SOP Instance UID (0008,0018) differs from the command's", header.SOP_INSTANCE_UID
        )
    if found.sop_class_uid != request.sop_class_uid:
        raise IdentityError(
            "SOP Class UID (0008,0016) differs from the command's", header.SOP_CLASS_UID
        )
