"""Rows for stored instances, committed in groups.

Many associations wait for their row at once; one commit costs an fsync whatever it holds. The
first to come commits for all that wait (leader and followers). A group that fails is tried again
row by row, so that each waiter hears of its own row only.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from .errors import DatabaseError

_STUDY = sa.text("""
INSERT INTO study (study_instance_uid, patient_id, patient_name, patient_birth_date, patient_sex,
                   accession_number, study_date, study_description, received_at, last_received_at)
VALUES (:study_instance_uid, :patient_id, :patient_name, :patient_birth_date, :patient_sex,
        :accession_number, :study_date, :study_description, :received, :received)
ON CONFLICT (study_instance_uid) DO UPDATE SET last_received_at = excluded.last_received_at
""")

# A series that was complete is open again: images may have come late. Completing it once more with
# the same set of instances starts no work.
_SERIES = sa.text("""
INSERT INTO series (series_instance_uid, study_instance_uid, patient_id, modality, series_number,
                    series_description, body_part, state, first_received_at, last_received_at,
                    trace_id)
VALUES (:series_instance_uid, :study_instance_uid, :patient_id, :modality, :series_number,
        :series_description, :body_part, 'open', :received, :received, :association_id)
ON CONFLICT (series_instance_uid) DO UPDATE
SET last_received_at = excluded.last_received_at, state = 'open'
""")

# Equal bytes under a known UID change nothing; other bytes become the next revision.
_INSTANCE = sa.text("""
INSERT INTO instance (sop_instance_uid, revision, series_instance_uid, study_instance_uid,
                      patient_id, sop_class_uid, transfer_syntax_uid, instance_number, path,
                      size_bytes, sha256, received_at, association_id)
SELECT CAST(:sop_instance_uid AS VARCHAR),
       (SELECT COUNT(*) FROM instance AS known WHERE known.sop_instance_uid = :sop_instance_uid),
       :series_instance_uid, :study_instance_uid, :patient_id, :sop_class_uid,
       :transfer_syntax_uid, :instance_number, :path,
       :size_bytes, CAST(:sha256 AS VARCHAR), :received, :association_id
WHERE NOT EXISTS (SELECT 1 FROM instance AS same
                  WHERE same.sop_instance_uid = :sop_instance_uid AND same.sha256 = :sha256)
""")

# Other bytes under a known SOP Instance UID: every study that has some of them is flagged.
_REVISED = sa.text("""
UPDATE study SET has_conflict = true
WHERE NOT has_conflict
  AND study_instance_uid IN (SELECT study_instance_uid FROM instance
                              WHERE sop_instance_uid = :sop_instance_uid)
  AND EXISTS (SELECT 1 FROM instance AS revised
               WHERE revised.sop_instance_uid = :sop_instance_uid AND revised.revision > 0)
""")

# A Series Instance UID that is used in two studies or for two patients, or a study that is.
_MIXED = sa.text("""
UPDATE study SET has_conflict = true
WHERE NOT has_conflict
  AND study_instance_uid IN (CAST(:study_instance_uid AS VARCHAR),
                             (SELECT study_instance_uid FROM series
                               WHERE series_instance_uid = :series_instance_uid))
  AND (EXISTS (SELECT 1 FROM series
                WHERE series.series_instance_uid = :series_instance_uid
                  AND (series.study_instance_uid <> CAST(:study_instance_uid AS VARCHAR)
                       OR COALESCE(series.patient_id, '') <>
                          COALESCE(CAST(:patient_id AS VARCHAR), '')))
       OR EXISTS (SELECT 1 FROM study AS described
                   WHERE described.study_instance_uid = CAST(:study_instance_uid AS VARCHAR)
                     AND COALESCE(described.patient_id, '') <>
                         COALESCE(CAST(:patient_id AS VARCHAR), '')))
""")

# Each statement with the keys by which rows of a group repeat it: 300 slices name one study.
_STATEMENTS = (
    (_STUDY, ("study_instance_uid",)),
    (_SERIES, ("series_instance_uid",)),
    (_INSTANCE, ("sop_instance_uid", "sha256")),
    (_REVISED, ("sop_instance_uid",)),
    (_MIXED, ("study_instance_uid", "series_instance_uid", "patient_id")),
)
_GROUP_LIMIT = 256


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """What is indexed of one stored instance; text is decoded, absent attributes are None."""

    study_instance_uid: str
    patient_id: str | None
    patient_name: str | None
    patient_birth_date: str | None
    patient_sex: str | None
    accession_number: str | None
    study_date: str | None
    study_description: str | None
    series_instance_uid: str
    modality: str | None
    series_number: int | None
    series_description: str | None
    body_part: str | None
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    path: str
    size_bytes: int
    sha256: str
    received_at: datetime
    association_id: str


class _Waiter:
    """A caller whose row is not durable yet; woken when it is, or to lead the next group."""

    __slots__ = ("done", "error", "record", "woken")

    def __init__(self, record: InstanceRecord) -> None:
        self.record = record
        self.done = False
        # Until the commit says otherwise: nothing may be acknowledged on a way not foreseen.
        self.error: DatabaseError | None = DatabaseError("instance row not committed")
        self.woken = threading.Event()


class Ingest:
    """Group commit of instance rows; one object per process.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        From `db.create_engine`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._guard = threading.Lock()
        self._has_leader = False
        self._waiting: list[_Waiter] = []

    def add(self, record: InstanceRecord) -> None:
        """Return when the row is durable.

        Raises
        ------
        DatabaseError
            If this row could not be committed; rows of other callers are not affected.
        """
        waiter = _Waiter(record)
        with self._guard:
            self._waiting.append(waiter)
            follows, self._has_leader = self._has_leader, True
        if follows:
            waiter.woken.wait()
        if not waiter.done:
            self._lead()
        if waiter.error is not None:
            raise waiter.error

    def _lead(self) -> None:
        """Commit for all that wait now, then hand over to the first of those that came since."""
        with self._guard:
            group, self._waiting = self._waiting[:_GROUP_LIMIT], self._waiting[_GROUP_LIMIT:]
        try:
            self._commit_group(group)
        finally:
            with self._guard:
                successor = self._waiting[0] if self._waiting else None
                self._has_leader = successor is not None
            for waiter in group:
                waiter.done = True
                waiter.woken.set()
            if successor is not None:
                successor.woken.set()

    def _commit_group(self, group: Sequence[_Waiter]) -> None:
        try:
            self._commit([waiter.record for waiter in group])
        except sa.exc.SQLAlchemyError:
            for waiter in group:
                self._commit_alone(waiter)
        else:
            for waiter in group:
                waiter.error = None

    def _commit_alone(self, waiter: _Waiter) -> None:
        try:
            self._commit([waiter.record])
        except sa.exc.SQLAlchemyError as error:
            # The driver's message may quote values: only its type is passed on.
            waiter.error = DatabaseError(f"instance row not committed ({type(error).__name__})")
        else:
            waiter.error = None

    def _commit(self, records: Sequence[InstanceRecord]) -> None:
        # Sorted, so that two processes never lock the same studies in opposite order.
        rows = sorted(map(self._row, records), key=lambda row: str(row["study_instance_uid"]))
        with self._engine.begin() as connection:
            for statement, keys in _STATEMENTS:
                distinct = {tuple(row[key] for key in keys): row for row in rows}
                for row in distinct.values():
                    connection.execute(statement, row)

    def _row(self, record: InstanceRecord) -> dict[str, object]:
        received: object = record.received_at.astimezone(UTC)
        if self._engine.dialect.name == "sqlite":
            # What the UtcDateTime type writes; plain SQL text bypasses it.
            received = record.received_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        return {**asdict(record), "received": received}
