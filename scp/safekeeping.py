"""Whether instances are kept safe: the truth behind every word of storage commitment.

A sender may delete its copy after our word. So every byte is read and compared with what was
received, of every revision that came under a SOP Instance UID: which of them the sender means is
not said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, IntEnum

import sqlalchemy as sa
import structlog

from db import inventory
from db.commitments_asked import HeldRevision, held_revisions
from db.damaged import FileSeen, file_seen, take_out
from db.files import FileStore

from .errors import ScpError
from .stored import stored_digest

_LOG = structlog.get_logger()


class FailureReason(IntEnum):
    """Why an instance is not committed: Failure Reason (0008,1197) (PS3.3 Section C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


class _State(Enum):
    WHOLE = "whole"
    ALTERED = "altered"
    GONE = "gone"
    UNREADABLE = "unreadable"  # the disk's fault: nothing is known of the file


class Safekeeping:
    """Looks at rows and files.

    What it finds altered goes into quarantine, and its row is marked missing, as is that of a file
    that is gone: the sender is told so, sends the image again, and it is whole.

    Parameters
    ----------
    engine, files
        Where instances are kept.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._files = files
        self._clock = clock

    def look(
        self,
        instances: Sequence[tuple[str, str]],
        trace_id: str,
        *,
        is_last: bool = False,
        pace: Callable[[], None] = lambda: None,
    ) -> dict[str, int] | None:
        """Look at instances; slow, because their files are read.

        Parameters
        ----------
        instances : sequence of (str, str)
            SOP Class UID and SOP Instance UID of each.
        trace_id : str
            Of the association that asked, for the log.
        is_last : bool
            Wait no longer for rows: what has none fails.
        pace : callable
            Called before each file; may raise to stop.

        Returns
        -------
        dict of str to int, or None
            By SOP Instance UID the Failure Reason of those that are not kept safe. None if some
            have no row while records wait for the database: they may be among them.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If the rows cannot be read, or those of damaged files not written.
        """
        # Before the rows: a record leaves the backlog when it has its row.
        n_waiting = inventory.count_backlog(self._files)
        with self._engine.connect() as connection:
            held = held_revisions(connection, list({uid for _, uid in instances}))
        unknown = [uid for _, uid in instances if uid not in held]
        if unknown and n_waiting and not is_last:
            return None
        no_row = FailureReason.PROCESSING_FAILURE if n_waiting else FailureReason.NO_SUCH_INSTANCE
        failures: dict[str, int] = dict.fromkeys(unknown, no_row)
        n_altered = 0
        for sop_class, uid in instances:
            if uid in failures:
                continue
            pace()
            reason, is_altered = self._judge(sop_class, held[uid], trace_id)
            n_altered += is_altered
            if reason is not None:
                failures[uid] = reason
        if failures:
            _LOG.warning("commitment.refused", trace=trace_id, n_instances=len(instances),
                         n_altered=n_altered, reasons=_counts(failures))  # fmt: skip
        return failures

    def _judge(
        self, sop_class: str, revisions: Sequence[HeldRevision], trace_id: str
    ) -> tuple[int | None, bool]:
        """Return why an instance fails, and whether its bytes are others than were received."""
        if revisions[-1].sop_class_uid != sop_class:
            return FailureReason.CLASS_INSTANCE_CONFLICT, False
        states = {self._state(one, trace_id) for one in revisions}
        is_altered = _State.ALTERED in states
        if is_altered or _State.GONE in states:
            return FailureReason.NO_SUCH_INSTANCE, is_altered
        return (FailureReason.PROCESSING_FAILURE if _State.UNREADABLE in states else None), False

    def _state(self, one: HeldRevision, trace_id: str) -> _State:
        """Look at one file; see to it that its bytes, sent again, take the place of lost ones."""
        state, seen = self._read(one)
        if state is _State.UNREADABLE or one.is_missing == (state is not _State.WHOLE):
            return state
        log = _LOG.bind(trace=trace_id, instance=one.sop_instance_uid, path=one.path)
        if state is _State.WHOLE:  # a volume was not mounted, or it was sent again just then
            inventory.mark_missing(self._engine, [one.id], None)
            log.info("instance.returned")
            return state
        try:
            taken = take_out(self._engine, self._files, one, seen, self._clock())
        except OSError as error:
            log.error("instance.damaged", found=state.value, reason=error.strerror)
            return _State.UNREADABLE
        if taken is not None:
            log.error("instance.damaged", found=state.value, quarantined=taken.quarantined)
        return state

    def _read(self, one: HeldRevision) -> tuple[_State, FileSeen | None]:
        try:
            seen = file_seen(self._files, one.path)
            is_whole = seen.size_bytes == one.size_bytes and self._digest(one) == one.sha256
        except (FileNotFoundError, NotADirectoryError):
            return _State.GONE, None
        except OSError:
            return _State.UNREADABLE, None
        return (_State.WHOLE if is_whole else _State.ALTERED), seen

    def _digest(self, one: HeldRevision) -> str | None:
        try:
            return stored_digest(self._files, one.path)
        except ScpError:  # its head is damaged
            return None


def _counts(failures: Mapping[str, int]) -> dict[str, int]:
    reasons = [f"0x{int(reason):04X}" for reason in failures.values()]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}
