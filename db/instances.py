"""The rows of stored instances: study, series and instance, in few statements for many instances.

Almost every instance is new, of one patient, in a known study. That way is straight: one statement
each for the studies, the series and the instances of the group. What is odd shows in what the
statements return, and only then is looked at: a study of two patients, a series in two studies, a
SOP Instance UID that came before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any

from .dialect import Cursor, Dialect
from .errors import DatabaseError
from .touched import TouchedSeries

# Rows in one statement: few different texts, so that the drivers keep all of them prepared.
_CHUNK = 16
_ATTEMPTS = 5


class Added(StrEnum):
    """What became of a stored instance."""

    NEW = "new"
    EQUAL = "equal"  # the same bytes were here under this SOP Instance UID: nothing changed
    REVISED = "revised"  # other bytes were: both are kept, the study is flagged
    UNINDEXED = "unindexed"  # durable in the backlog; its row follows when the database is back


@dataclass(slots=True)  # not frozen: one is made for every image, and freezing is slow
class InstanceRecord:
    """What is indexed of one stored instance; text is decoded, absent attributes are None.

    Study and Series Instance UID are both there or both None: objects that belong to no patient
    (PS3.3 Section 7.1.2) and private ones may have neither.
    """

    study_instance_uid: str | None
    patient_id: str | None
    patient_name: str | None
    patient_birth_date: str | None
    patient_sex: str | None
    accession_number: str | None
    study_date: str | None
    study_description: str | None
    series_instance_uid: str | None
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


def _upsert(table: str, columns: str, conflict: str, then: str, returning: str) -> tuple[str, str]:
    row = "(" + ", ".join("?" * len(columns.split(","))) + ")"
    return row, (
        f"INSERT INTO {table} ({columns}) VALUES {{rows}} "  # noqa: S608 - constants of this file
        f"ON CONFLICT ({conflict}) DO {then} RETURNING {returning}"
    )


_STUDY = _upsert(
    "study",
    "study_instance_uid, patient_id, patient_name, patient_birth_date, patient_sex, "
    "accession_number, study_date, study_description, received_at, last_received_at",
    "study_instance_uid",
    "UPDATE SET last_received_at = excluded.last_received_at",
    "study_instance_uid, patient_id",
)
# A series that was complete is open again: images may have come late. Completing it once more with
# the same set of instances starts no work.
_SERIES = _upsert(
    "series",
    "series_instance_uid, study_instance_uid, patient_id, modality, series_number, "
    "series_description, body_part, trace_id, first_received_at, last_received_at",
    "series_instance_uid",
    "UPDATE SET last_received_at = excluded.last_received_at, state = 'open'",
    "series_instance_uid, study_instance_uid, patient_id",
)
_INSTANCE = _upsert(
    "instance",
    "sop_instance_uid, series_instance_uid, study_instance_uid, patient_id, sop_class_uid, "
    "transfer_syntax_uid, instance_number, path, size_bytes, sha256, association_id, "
    "received_at, revision",
    "sop_instance_uid, revision",
    "NOTHING",
    "sop_instance_uid",
)
# The same, and whether the series still awaits images.
_INSTANCE_OF_TOUCHED = (
    _INSTANCE[0],
    f"{_INSTANCE[1]}, (SELECT state FROM series AS s "  # noqa: S608 - constants of this file
    "WHERE s.series_instance_uid = instance.series_instance_uid)",
)
_RESENT = _upsert(
    "resent",
    "series_instance_uid, association_id",
    "series_instance_uid, association_id",
    "NOTHING",
    "series_instance_uid",
)
_KNOWN = """
SELECT id, revision, sha256, transfer_syntax_uid, path, size_bytes, missing_at, association_id
FROM instance
WHERE sop_instance_uid = ? ORDER BY revision
"""
_FOUND = "UPDATE instance SET missing_at = NULL, path = ?, size_bytes = ? WHERE id = ?"
# Where a person corrected the Patient ID, images bear the old or the new one, and that is known.
_MIXED = """
UPDATE study SET has_conflict = true WHERE NOT has_conflict AND study_instance_uid = ?
AND NOT EXISTS (SELECT 1 FROM study_correction
                 WHERE study_correction.study_instance_uid = study.study_instance_uid
                   AND study_correction.attributes LIKE ?)
"""
# Other bytes under a known SOP Instance UID: every study that has some of them is flagged.
_REVISED = """
UPDATE study SET has_conflict = true
WHERE NOT has_conflict
  AND study_instance_uid IN (SELECT study_instance_uid FROM instance WHERE sop_instance_uid = ?)
"""

_study_values = attrgetter(
    "study_instance_uid", "patient_id", "patient_name", "patient_birth_date", "patient_sex",
    "accession_number", "study_date", "study_description",
)  # fmt: skip
_series_values = attrgetter(
    "series_instance_uid", "study_instance_uid", "patient_id", "modality", "series_number",
    "series_description", "body_part", "association_id",
)  # fmt: skip
_instance_values = attrgetter(
    "sop_instance_uid", "series_instance_uid", "study_instance_uid", "patient_id", "sop_class_uid",
    "transfer_syntax_uid", "instance_number", "path", "size_bytes", "sha256", "association_id",
)  # fmt: skip


def write_instances(
    cursor: Cursor,
    dialect: Dialect,
    records: Sequence[InstanceRecord],
    indexed_at: datetime | None = None,
    touched: TouchedSeries | None = None,
) -> list[Added]:
    """Write the rows of a group inside the transaction of `cursor`.

    Parameters
    ----------
    indexed_at : datetime or None
        For instances that were received long ago: the time that counts for whether their series is
        still being received. A series would otherwise look quiet after its first rows.
    touched : TouchedSeries or None
        Series whose rows were just written. Only where one transaction writes at a time: elsewhere
        a series could be completed between the look at it and the commit.

    Returns
    -------
    list of Added
        For each record: NEW, EQUAL or REVISED.
    """
    placed = [record for record in records if record.study_instance_uid is not None]
    began = time.monotonic()
    covered, untouched = ([], placed) if touched is None else touched.split(placed)
    if untouched:
        _write_studies(cursor, dialect, untouched, indexed_at)
    first = _first_of_each(records, "sop_instance_uid")
    rows = [(*_instance_values(one), dialect.time(one.received_at), 0) for one in first.values()]
    if touched is None or not covered:
        inserted = {uid for (uid,) in _run(cursor, dialect, _INSTANCE, rows)}
    else:
        states = dict(_run(cursor, dialect, _INSTANCE_OF_TOUCHED, rows))
        inserted = set(states)
        # Also if one was known, whose state has not come back.
        are_open = all(states.get(one.sop_instance_uid) == "open" for one in covered)
        if not are_open or touched.is_outdated(began):
            _write_studies(cursor, dialect, placed, indexed_at)
            untouched = placed
    if touched is not None:
        touched.written(untouched)
    if len(inserted) == len(records):
        return [Added.NEW] * len(records)
    outcomes = []
    resent: set[tuple[str, str]] = set()
    for record in records:
        if record.sop_instance_uid in inserted:  # the first of them: the row is its own
            inserted.remove(record.sop_instance_uid)
            outcomes.append(Added.NEW)
        else:
            outcomes.append(_write_known(cursor, dialect, record, resent))
    _run(cursor, dialect, _RESENT, sorted(resent))
    return outcomes


def _write_studies(
    cursor: Cursor, dialect: Dialect, records: Sequence[InstanceRecord], indexed_at: datetime | None
) -> None:
    """Write studies and series; flag what is of several patients or studies."""

    def rows(key: str, values: Callable[[InstanceRecord], tuple[object, ...]]) -> list[Any]:
        last = {getattr(record, key): indexed_at or record.received_at for record in records}
        return [
            (*values(record), dialect.time(record.received_at), dialect.time(last[uid]))
            for uid, record in _first_of_each(records, key).items()
        ]

    studies = _run(cursor, dialect, _STUDY, rows("study_instance_uid", _study_values))
    series = _run(cursor, dialect, _SERIES, rows("series_instance_uid", _series_values))
    patient_of = {uid: patient or "" for uid, patient in studies}
    owner_of = {uid: (study, patient or "") for uid, study, patient in series}
    mixed: set[str | None] = set()
    for record in records:
        patient = record.patient_id or ""
        owner = owner_of[record.series_instance_uid]
        if patient_of[record.study_instance_uid] != patient or owner != (
            record.study_instance_uid,
            patient,
        ):
            mixed |= {record.study_instance_uid, owner[0]}
    for study in sorted(filter(None, mixed)):
        cursor.execute(dialect.sql(_MIXED), (study, '%"PatientID"%'))


def _write_known(
    cursor: Cursor, dialect: Dialect, record: InstanceRecord, resent: set[tuple[str, str]]
) -> Added:
    """Write an instance whose SOP Instance UID came before; note in `resent` who sent it again."""
    uid = record.sop_instance_uid
    for _ in range(_ATTEMPTS):
        known = cursor.execute(dialect.sql(_KNOWN), (uid,)).fetchall()
        for row_id, _, sha256, syntax, path, size, missing_at, first in known:
            if (sha256, syntax) == (record.sha256, record.transfer_syntax_uid):
                # A file that was gone may be back with a head of another length (it names the
                # sender) before anybody missed it.
                is_other = path == record.path and size != record.size_bytes
                if missing_at is not None or is_other:
                    cursor.execute(dialect.sql(_FOUND), (record.path, record.size_bytes, row_id))
                if record.series_instance_uid is not None and first != record.association_id:
                    resent.add((record.series_instance_uid, record.association_id))
                return Added.EQUAL
        revision = known[-1][1] + 1 if known else 0
        row = (*_instance_values(record), dialect.time(record.received_at), revision)
        # Nothing comes back if another process took this revision in between.
        if _run(cursor, dialect, _INSTANCE, [row]):
            cursor.execute(dialect.sql(_REVISED), (uid,))
            return Added.REVISED if revision else Added.NEW
    raise DatabaseError("too many processes write revisions of one instance")


def _first_of_each(records: Sequence[InstanceRecord], key: str) -> dict[str, InstanceRecord]:
    """Return the first record of each UID, sorted: two processes lock in the same order."""
    value = attrgetter(key)
    first = {value(record): record for record in reversed(records)}
    return dict(sorted(first.items())) if len(first) > 1 else first


def _run(
    cursor: Cursor, dialect: Dialect, statement: tuple[str, str], rows: Sequence[Sequence[object]]
) -> list[Any]:
    returned: list[Any] = []
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        text = _text(statement, len(chunk))
        values = [value for row in chunk for value in row]
        returned += cursor.execute(dialect.sql(text), values).fetchall()
    return returned


@lru_cache(maxsize=4 * _CHUNK)
def _text(statement: tuple[str, str], n_rows: int) -> str:
    row, text = statement
    return text.format(rows=", ".join([row] * n_rows))
