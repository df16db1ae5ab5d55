"""Whether instances are kept safe: the truth behind every word of storage commitment.

A sender may delete its copy after our word. So every byte is read and compared with what was
received, of every revision that came under a SOP Instance UID: which of them the sender means is
not said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum

import sqlalchemy as sa
import structlog

from db import inventory
from db.commitments_asked import HeldRevision, held_revisions
from db.files import FileStore

from .errors import ScpError
from .stored import stored_digest

_LOG = structlog.get_logger()


class FailureReason(IntEnum):
    """Why an instance is not committed: Failure Reason (0008,1197) (PS3.3 Section C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


class Safekeeping:
    """Looks at rows and files.

    Parameters
    ----------
    engine, files
        Where instances are kept.
    """

    def __init__(self, engine: sa.Engine, files: FileStore) -> None:
        self._engine = engine
        self._files = files

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
            If the rows cannot be read.
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
            reason, is_altered = self._judge(sop_class, held[uid])
            n_altered += is_altered
            if reason is not None:
                failures[uid] = reason
        if failures:
            _LOG.warning("commitment.refused", trace=trace_id, n_instances=len(instances),
                         n_altered=n_altered, reasons=_counts(failures))  # fmt: skip
        return failures

    def _judge(self, sop_class: str, revisions: Sequence[HeldRevision]) -> tuple[int | None, bool]:
        """Return why an instance fails, and whether its bytes are others than were received."""
        if revisions[-1].sop_class_uid != sop_class:
            return FailureReason.CLASS_INSTANCE_CONFLICT, False
        try:
            for one in revisions:
                if one.is_missing:
                    return FailureReason.NO_SUCH_INSTANCE, False
                if not self._is_whole(one):
                    return FailureReason.NO_SUCH_INSTANCE, True
        except (FileNotFoundError, NotADirectoryError):
            return FailureReason.NO_SUCH_INSTANCE, False
        except OSError:
            return FailureReason.PROCESSING_FAILURE, False
        return None, False

    def _is_whole(self, one: HeldRevision) -> bool:
        if (self._files.root / one.path).stat().st_size != one.size_bytes:
            return False
        try:
            return stored_digest(self._files, one.path) == one.sha256
        except ScpError:  # its head is damaged
            return False


def _counts(failures: Mapping[str, int]) -> dict[str, int]:
    reasons = [f"0x{int(reason):04X}" for reason in failures.values()]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}
