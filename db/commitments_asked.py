"""Storage commitment that senders ask of this node: requests, and whether they have their answer.

A request is a row before it is answered, so that a crash forgets none. Whoever makes its answer
holds a lease on it: the acceptor while the association is open, then the part that delivers. A
lease that ends unused is somebody else's: an answer is made again rather than never.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from .schema import CommitmentAsked, Instance, ReportState

_TABLE = cast(sa.Table, CommitmentAsked.__table__)
_UIDS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class AskedCommitment:
    """A request for storage commitment (PS3.4 Section J.3.2).

    Attributes
    ----------
    instances : tuple of (str, str)
        SOP Class UID and SOP Instance UID of each instance.
    """

    id: int
    transaction_uid: str
    calling_ae: str
    called_ae: str
    association_id: str
    instances: tuple[tuple[str, str], ...]
    n_attempts: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class HeldRevision:
    """What the rows say of one revision of an instance; `id` is that of its row."""

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    path: str
    size_bytes: int
    sha256: str
    is_missing: bool


_COLUMNS = (
    CommitmentAsked.id,
    CommitmentAsked.transaction_uid,
    CommitmentAsked.calling_ae,
    CommitmentAsked.called_ae,
    CommitmentAsked.association_id,
    CommitmentAsked.instances,
    CommitmentAsked.n_attempts,
    CommitmentAsked.received_at,
)


def record_request(
    connection: sa.Connection,
    *,
    transaction_uid: str,
    calling_ae: str,
    called_ae: str,
    association_id: str,
    instances: Sequence[tuple[str, str]],
    now: datetime,
    leased_until: datetime,
) -> int | None:
    """Enter a request, leased to the caller; one that is equal to an earlier one begins it anew.

    Returns
    -------
    int or None
        The id of its row; None if this sender uses the Transaction UID for other instances.
    """
    begun: dict[str, object] = {
        "called_ae": called_ae,
        "association_id": association_id,
        "state": ReportState.PENDING,
        "n_attempts": 0,
        "failures": None,
        "last_error": None,
        "next_attempt_at": leased_until,
        "leased_until": leased_until,
        "received_at": now,
        "reported_at": None,
    }
    encoded = json.dumps([list(one) for one in instances], separators=(",", ":"))
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    entered = (
        insert(_TABLE)
        .values(transaction_uid=transaction_uid, calling_ae=calling_ae, instances=encoded, **begun)
        .on_conflict_do_update(
            index_elements=["calling_ae", "transaction_uid"],
            set_=begun,
            where=_TABLE.c.instances == encoded,
        )
        .returning(_TABLE.c.id)
    )
    return connection.execute(entered).scalar_one_or_none()


def renew(connection: sa.Connection, ids: Collection[int], leased_until: datetime) -> None:
    """Go on holding requests whose association is open."""
    connection.execute(
        sa.update(CommitmentAsked)
        .where(CommitmentAsked.id.in_(ids), CommitmentAsked.state == ReportState.PENDING)
        .values(leased_until=leased_until, next_attempt_at=leased_until)
    )


def release(
    connection: sa.Connection, asked_id: int, next_attempt_at: datetime, error: str | None
) -> None:
    """Let go of a request, so that it is answered on an association of its own."""
    _pending(
        connection,
        asked_id,
        {"leased_until": None, "next_attempt_at": next_attempt_at, "last_error": error},
    )


def has_due(connection: sa.Connection, now: datetime) -> bool:
    """Tell whether there is anything to claim; writes nothing."""
    return connection.execute(_due(now, ()).limit(1)).first() is not None


def claim(
    connection: sa.Connection,
    *,
    now: datetime,
    leased_until: datetime,
    busy: Collection[str] = (),
) -> AskedCommitment | None:
    """Lease the request that is due for the longest; counts one attempt.

    Parameters
    ----------
    busy : collection of str
        Calling AE titles of which none is wanted now.
    """
    chosen = (
        _due(now, busy)
        .order_by(CommitmentAsked.next_attempt_at, CommitmentAsked.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(
        sa.update(CommitmentAsked)
        .where(CommitmentAsked.id.in_(chosen))
        .values(leased_until=leased_until, n_attempts=CommitmentAsked.n_attempts + 1)
        .returning(*_COLUMNS)
    ).first()
    if row is None:
        return None
    values = dict(row._mapping)
    values["instances"] = tuple((one, other) for one, other in json.loads(values["instances"]))
    return AskedCommitment(**values)


def _due(now: datetime, busy: Collection[str]) -> sa.Select[int]:
    return sa.select(CommitmentAsked.id).where(
        # A literal as in the partial index, so that it is used.
        sa.text("commitment_asked.state = 'pending'"),
        CommitmentAsked.next_attempt_at <= now,
        sa.or_(CommitmentAsked.leased_until.is_(None), CommitmentAsked.leased_until <= now),
        CommitmentAsked.calling_ae.not_in(list(busy)),
    )


def mark_looked_at(connection: sa.Connection, asked_id: int, failures: Mapping[str, int]) -> None:
    """Enter what the answer is: by SOP Instance UID the Failure Reason of what is not committed."""
    encoded = json.dumps({uid: f"0x{reason:04X}" for uid, reason in failures.items()})
    _pending(connection, asked_id, {"failures": encoded})


def mark_reported(connection: sa.Connection, asked_id: int, now: datetime) -> None:
    """Enter that the sender has its answer, whatever was entered before."""
    connection.execute(
        sa.update(CommitmentAsked)
        .where(CommitmentAsked.id == asked_id)
        .values(state=ReportState.REPORTED, reported_at=now, leased_until=None, last_error=None)
    )


def mark_failed(
    connection: sa.Connection, asked_id: int, error: str, next_attempt_at: datetime | None
) -> None:
    """Enter a failed attempt; without `next_attempt_at` it was the last."""
    values: dict[str, object] = {"leased_until": None, "last_error": error[:1000]}
    if next_attempt_at is None:
        values["state"] = ReportState.DEAD
    else:
        values["next_attempt_at"] = next_attempt_at
    _pending(connection, asked_id, values)


def put_off(connection: sa.Connection, asked_id: int, next_attempt_at: datetime) -> None:
    """Look again later, and do not count it as an attempt."""
    connection.execute(
        sa.update(CommitmentAsked)
        .where(CommitmentAsked.id == asked_id)
        .values(
            leased_until=None,
            next_attempt_at=next_attempt_at,
            n_attempts=CommitmentAsked.n_attempts - 1,
        )
    )


def _pending(connection: sa.Connection, asked_id: int, values: Mapping[str, object]) -> None:
    connection.execute(
        sa.update(CommitmentAsked)
        # Whoever overslept its lease must not undo what the next one did.
        .where(CommitmentAsked.id == asked_id, CommitmentAsked.state == ReportState.PENDING)
        .values(values)
    )


def held_revisions(
    connection: sa.Connection, sop_instance_uids: Sequence[str]
) -> dict[str, list[HeldRevision]]:
    """Return what is kept of instances, the newest revision last; unknown ones are left out."""
    found: dict[str, list[HeldRevision]] = {}
    for start in range(0, len(sop_instance_uids), _UIDS_PER_QUERY):
        some = sop_instance_uids[start : start + _UIDS_PER_QUERY]
        rows = connection.execute(
            sa.select(
                Instance.id,
                Instance.sop_instance_uid,
                Instance.sop_class_uid,
                Instance.path,
                Instance.size_bytes,
                Instance.sha256,
                Instance.missing_at.is_not(None),
            )
            .where(Instance.sop_instance_uid.in_(some))
            .order_by(Instance.sop_instance_uid, Instance.revision)
        )
        for row in rows:
            found.setdefault(row.sop_instance_uid, []).append(HeldRevision(*row))
    return found
