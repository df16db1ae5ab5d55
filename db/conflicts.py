"""Conflicts: different bytes under one SOP Instance UID, one series of several studies or patients.

Receiving sees them as they come. Here they are found in rows that were made later, or again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from .schema import Instance, Series, Study


@dataclass(frozen=True, slots=True)
class _Revision:
    id: int
    sop_instance_uid: str
    revision: int
    received_at: datetime
    path: str

    def arrival(self) -> tuple[datetime, int, str]:
        """Sort by receipt; of two of one instant, the first found the shorter, plain name free."""
        return self.received_at, len(self.path), self.path


def number_by_arrival(connection: sa.Connection, sop_instance_uids: Collection[str]) -> None:
    """Renumber the revisions of SOP instances whose rows were not made in the order of receipt.

    Studies that have revisions are flagged, as they are when those are received.
    """
    revisions = _revisions(connection, sop_instance_uids)
    moves = [
        {"row": row, "number": number}
        for several in revisions.values()
        for row, number in _moves(sorted(several, key=_Revision.arrival))
    ]
    if moves:
        number: sa.BindParameter[int] = sa.bindparam("number", type_=sa.Integer)
        to = sa.update(Instance).where(Instance.id == sa.bindparam("row")).values(revision=number)
        connection.execute(to, moves)
    _flag(connection, [uid for uid, several in revisions.items() if len(several) > 1])


def _moves(ordered: Sequence[_Revision]) -> Iterator[tuple[int, int]]:
    """Yield rows with their next numbers, one after the other, so that no two ever bear the same.

    Most rows move once. In a circle the last one steps aside first: it is the one just made, and
    PostgreSQL, which looks at the study of a row that moves twice, finds it.
    """
    now = {one.id: one.revision for one in ordered}
    goal = {one.id: number for number, one in enumerate(ordered)}
    while waiting := [row for row in now if now[row] != goal[row]]:
        taken = set(now.values())
        row = next((row for row in waiting if goal[row] not in taken), None)
        if row is None:
            row = max(waiting, key=now.__getitem__)
            now[row] = max(taken) + 1
        else:
            now[row] = goal[row]
        yield row, now[row]


def _revisions(
    connection: sa.Connection, sop_instance_uids: Collection[str]
) -> dict[str, list[_Revision]]:
    found = connection.execute(
        sa.select(
            Instance.id,
            Instance.sop_instance_uid,
            Instance.revision,
            Instance.received_at,
            Instance.path,
        ).where(Instance.sop_instance_uid.in_(sop_instance_uids))
    )
    revisions: dict[str, list[_Revision]] = defaultdict(list)
    for row in found:
        revisions[row.sop_instance_uid].append(_Revision(*row))
    return revisions


def _flag(connection: sa.Connection, revised: Collection[str]) -> None:
    if not revised:
        return
    has_some = sa.select(Instance.study_instance_uid).where(Instance.sop_instance_uid.in_(revised))
    connection.execute(
        sa.update(Study)
        .where(sa.not_(Study.has_conflict), Study.study_instance_uid.in_(has_some))
        .values(has_conflict=True)
    )


def flag_mixed(connection: sa.Connection, study_instance_uids: Collection[str]) -> None:
    """Flag those studies a series of which has images of another study or patient."""
    if not study_instance_uids:
        return
    uid = Study.study_instance_uid
    of_series, of_image = (
        sa.func.coalesce(column, "") for column in (Series.patient_id, Instance.patient_id)
    )
    strange = sa.exists().where(
        Series.study_instance_uid == uid,
        Instance.series_instance_uid == Series.series_instance_uid,
        sa.or_(Instance.study_instance_uid != uid, of_image != of_series),
    )
    connection.execute(
        sa.update(Study)
        .where(sa.not_(Study.has_conflict), uid.in_(study_instance_uids), strange)
        .values(has_conflict=True)
    )
