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
        self._series: dict[str | None, tuple[str | None, str | None, datetime]] = {}

    def uncovered(self, records: Sequence[InstanceRecord]) -> list[InstanceRecord]:
        """Return the records whose study and series have to be written again."""
        now = datetime.now(UTC)
        return [record for record in records if not self._covers(record, now)]

    def is_outdated(self, since: float) -> bool:
        """Tell whether what `uncovered` said at this `time.monotonic` may not be true any more."""
        return time.monotonic() - since >= self.seconds

    def remember(self, records: Sequence[InstanceRecord]) -> None:
        """Take note of what was committed."""
        if len(self._series) > _MOST:
            self._series.clear()
        now = datetime.now(UTC)
        for record in records:
            if not self._covers(record, now):
                key = (record.study_instance_uid, record.patient_id, record.received_at)
                self._series[record.series_instance_uid] = key

    def forget(self) -> None:
        """Forget everything: rows may have been removed, or not been written."""
        self._series.clear()

    def _covers(self, record: InstanceRecord, now: datetime) -> bool:
        known = self._series.get(record.series_instance_uid)
        return (
            known is not None
            and known[0] == record.study_instance_uid
            and known[1] == record.patient_id
            # A clock that was set back covers nothing.
            and _NOTHING <= now - known[2] < self._window
        )
