"""C-STORE: data set in, status out.

Success is answered only when the file, its directory entry and its row are on disk. Bytes are kept
as they came, behind a file head that names the negotiated transfer syntax. What cannot be kept as
an instance is kept in quarantine, so that nothing a sender delivered is lost with its refusal.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime

import structlog

from db.errors import DatabaseError, StorageFullError
from db.files import FileStore
from db.incoming import IncomingImage
from db.ingest import Added, Ingest, InstanceRecord

from . import header
from .errors import IdentityError, InvalidInstanceError, ScpError
from .header import Header, is_uid, read_header
from .part10 import file_head
from .status import StoreStatus, failure
from .structure import BeyondError
from .transport.command import Outcome

_LOG = structlog.get_logger()
_STORED = Outcome(int(StoreStatus.SUCCESS))
_ASK_DISK_SECONDS = 0.5
# A disk is also full when it has no place for another file, however small.
_MIN_FREE_FILES = 1024
_HEADER_FIELDS = tuple(one.name for one in fields(Header))


@dataclass(slots=True)  # not frozen: one is made for every image, and freezing is slow
class StoreRequest:
    """One C-STORE request without its data set, free of pynetdicom."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    association_id: str
    calling_ae: str


@dataclass(slots=True)
class DiskWatermark:
    """Tells whether there is room for more images.

    The file system is asked twice a second at most: images are stored a thousand times a second.
    """

    files: FileStore
    min_free_bytes: int
    _known: bool = field(default=True, init=False)
    _known_until: float = field(default=0.0, init=False)

    def has_room(self) -> bool:
        """Return False when less than `min_free_bytes` is left; also if that cannot be told."""
        now = time.monotonic()
        if now >= self._known_until:
            try:
                free = self.files.free_space()
                least_files = _MIN_FREE_FILES if self.min_free_bytes else 0
                self._known = free.n_bytes >= self.min_free_bytes and free.n_files >= least_files
            except OSError:
                self._known = False
            self._known_until = now + _ASK_DISK_SECONDS
        return self._known


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

    def begin(self, request: StoreRequest) -> Reception:
        """Begin to receive an instance; never raises."""
        return Reception(self, request)

    def incoming(self, request: StoreRequest) -> IncomingImage:
        """Return where the data set of a request goes."""
        head = file_head(
            request.sop_class_uid,
            request.sop_instance_uid,
            request.transfer_syntax_uid,
            request.calling_ae,
        )
        return self._files.incoming(request.sop_instance_uid, head)

    def require_room(self) -> None:
        """Raise `StorageFullError` if the disk has no room for another image."""
        if not self._disk.has_room():
            raise StorageFullError("less disk space than scp.min_free_disk_mb is left")

    def keep(self, request: StoreRequest, image: IncomingImage) -> Added:
        """Keep an instance whose data set is complete.

        Raises
        ------
        ScpError
            If it is no instance, or another than the request says.
        DatabaseError
            If file or row could not be kept.
        """
        if not is_uid(request.sop_instance_uid):
            raise InvalidInstanceError("the Affected SOP Instance UID is no UID")
        image.complete()  # first, so that the disk works meanwhile
        found = _header_of(image, request.transfer_syntax_uid)
        _require_match(found, request)
        stored = image.keep()
        return self._ingest.add(
            InstanceRecord(
                **{name: getattr(found, name) for name in _HEADER_FIELDS},
                transfer_syntax_uid=request.transfer_syntax_uid,
                path=stored.path,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                received_at=self._clock(),
                association_id=request.association_id,
            )
        )

    def quarantine(self, image: IncomingImage) -> str:
        """Keep the bytes of an image that cannot be kept as one."""
        return image.quarantine(f"{self._clock():%Y%m%dT%H%M%S}-{uuid.uuid4().hex}")


class Reception:
    """One instance that is being received.

    Its methods never raise. What goes wrong on the way is remembered and answered at the end; until
    then the sender goes on sending, and what it sends is dropped.

    Attributes
    ----------
    added : Added or None
        What became of it, after `finish`; None if it was refused.
    """

    def __init__(self, receiver: Receiver, request: StoreRequest) -> None:
        self.added: Added | None = None
        self.n_bytes = 0
        self._receiver = receiver
        self._request = request
        self._error: Exception | None = None
        self._image: IncomingImage | None = None
        self._guarded(self._begin)

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set; their memory is in use until it was flushed."""
        self.n_bytes += len(data)
        if self._image is not None and self._error is None:
            self._image.write(data)

    def flush(self) -> bool:
        """Write what was taken; return whether its memory is in use until the next `flush`."""
        if self._image is None:
            return False
        self._guarded(self._image.flush)
        return self._image.is_holding

    def finish(self) -> Outcome:
        """Keep the instance; return what to answer."""
        self._guarded(self._keep)
        outcome = _STORED if self._error is None else self._refuse(self._error)
        self.discard()
        if self.added is not None:
            _LOG.debug(
                "instance.stored",
                trace=self._request.association_id,
                instance=self._request.sop_instance_uid,
                n_bytes=self.n_bytes,
                result=str(self.added),
            )
        return outcome

    def discard(self) -> None:
        """Forget what was not kept."""
        image, self._image = self._image, None
        if image is not None:
            try:
                image.discard()
            except OSError as error:
                self._log.error("incoming.not_removed", error=type(error).__name__)

    def _begin(self) -> None:
        self._receiver.require_room()
        self._image = self._receiver.incoming(self._request)

    def _keep(self) -> None:
        assert self._image is not None
        self.added = self._receiver.keep(self._request, self._image)

    def _guarded(self, step: Callable[[], None]) -> None:
        if self._error is not None:
            return
        try:
            step()
        except (ScpError, DatabaseError) as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - thread boundary: the sender gets an answer
            self._log.error("instance.failed", error=type(error).__name__, exc_info=True)
            self._error = error

    def _refuse(self, error: Exception) -> Outcome:
        outcome = failure(error)
        # What the sender is asked to send again need not be kept; on a full disk it cannot be.
        is_kept = self.n_bytes > 0 and not isinstance(error, DatabaseError)
        kept = self._quarantine() if is_kept else None
        self._log.warning(
            "instance.refused",
            status=f"0x{outcome.status:04X}",
            reason=str(error) if isinstance(error, ScpError | DatabaseError) else "internal error",
            quarantined=kept,
        )
        return outcome

    def _quarantine(self) -> str | None:
        if self._image is None:
            return None
        try:
            return self._receiver.quarantine(self._image)
        except (DatabaseError, OSError) as error:
            self._log.error("quarantine.failed", error=type(error).__name__)
            return None

    @property
    def _log(self) -> structlog.stdlib.BoundLogger:
        request = self._request
        log: structlog.stdlib.BoundLogger = _LOG.bind(
            trace=request.association_id, instance=request.sop_instance_uid[:64]
        )
        return log


def _header_of(image: IncomingImage, transfer_syntax_uid: str) -> Header:
    try:
        return read_header(image.beginning(), transfer_syntax_uid, image.n_bytes)
    except BeyondError:
        with image.data_set() as data_set:
            return read_header(data_set, transfer_syntax_uid)


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
