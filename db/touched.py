"""Series whose rows were written a moment ago.

Every image says of its study and its series when the last image came. Nobody asks more closely than
half a second, and writing it for each image costs as much as the image's own row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .instances import InstanceRecord

_MOST = 4096
_NOTHING = timedelta()


class TouchedSeries:
    """Remembers when this process has last written the rows of a series.

    Parameters
    ----------
    seconds : float
        How long they count as just written; 0 for never. It must be less than half the time that a
        series has to be quiet until it is complete: whoever completes one tells by
        `last_received_at` whether an image came meanwhile.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._window = timedelta(seconds=seconds)
        self._pending: Sequence[InstanceRecord] = ()
        self._series: dict[str | None, tuple[str | None, str | None, datetime]] = {}

    def split(
        self, records: Sequence[InstanceRecord]
    ) -> tuple[list[InstanceRecord], list[InstanceRecord]]:
        """Return the records whose study and series were just written, and the others."""
        now = datetime.now(UTC)
        covered: list[InstanceRecord] = []
        others: list[InstanceRecord] = []
        for record in records:
            (covered if self._covers(record, now) else others).append(record)
        return covered, others

    def is_outdated(self, since: float) -> bool:
        """Tell whether what `split` said at this `time.monotonic` may not be true any more."""
        return time.monotonic() - since >= self.seconds

    def written(self, records: Sequence[InstanceRecord]) -> None:
        """Say for which records study and series were written in the open transaction.

        Only these: what is not written must not look as if it were, however often it is seen.
        """
        self._pending = records

    def commit(self) -> None:
        """Take note of what was written: the transaction was committed."""
        if len(self._series) > _MOST:
            self._series.clear()
        for record in self._pending:  # the last one of a series gave its row the time
            key = (record.study_instance_uid, record.patient_id, record.received_at)
            self._series[record.series_instance_uid] = key
        self._pending = ()

    def forget(self) -> None:
        """Forget everything: rows may have been removed, or not been written."""
        self._series.clear()
        self._pending = ()

    def _covers(self, record: InstanceRecord, now: datetime) -> bool:
        known = self._series.get(record.series_instance_uid)
        return (
            known is not None
            and known[0] == record.study_instance_uid
            and known[1] == record.patient_id
            # A clock that was set back covers nothing.
            and _NOTHING <= now - known[2] < self._window
        )
