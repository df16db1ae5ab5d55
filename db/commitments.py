"""Storage commitments that this node asked of destinations, and their answers (PS3.4 Annex J)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from .schema import CommitmentSought, Delivery, DeliveryState, Proof, ResultObject

# Failure Reasons (0008,1197) of PS3.3 Section C.14.1.1.
_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "referenced SOP class not supported",
    0x0119: "class and instance do not fit together",
    0x0131: "duplicate Transaction UID",
}
_FIRST_RETRY = timedelta(seconds=5)
_LONGEST_RETRY = timedelta(minutes=15)


def note_sought(
    connection: sa.Connection, transaction_uid: str, delivery_id: int, now: datetime
) -> None:
    """Enter a request before it is sent: its answer may be faster than its acknowledgment."""
    connection.execute(
        sa.insert(CommitmentSought).values(
            transaction_uid=transaction_uid, delivery_id=delivery_id, requested_at=now
        )
    )


def note_refused(
    connection: sa.Connection, transaction_uid: str, status: str | None, now: datetime
) -> None:
    """Enter that the destination did not take the request: no answer will come."""
    connection.execute(
        sa.update(CommitmentSought)
        .where(
            CommitmentSought.transaction_uid == transaction_uid,
            CommitmentSought.answered_at.is_(None),
        )
        .values(answered_at=now, failure_reason=status or "refused")
    )


def is_answered(connection: sa.Connection, transaction_uid: str) -> bool:
    """Tell whether the destination has answered a request."""
    answered_at = connection.execute(
        sa.select(CommitmentSought.answered_at).where(
            CommitmentSought.transaction_uid == transaction_uid
        )
    ).scalar()
    return answered_at is not None


def record_answer(
    connection: sa.Connection,
    transaction_uid: str,
    committed: Collection[str],
    failed: Mapping[str, int],
    now: datetime,
) -> bool:
    """Enter what a destination said to a request of this node (PS3.4 Section J.3.3).

    Parameters
    ----------
    transaction_uid : str
        Transaction UID (0008,1195).
    committed : collection of str
        SOP Instance UIDs of the Referenced SOP Sequence (0008,1199).
    failed : mapping of str to int
        Failure Reason (0008,1197) by SOP Instance UID, of the Failed SOP Sequence (0008,1198).

    Returns
    -------
    bool
        False if this node never asked that. An answer that came before, or that names other
        instances only, is known but changes nothing.
    """
    asked = connection.execute(
        sa.select(
            CommitmentSought.delivery_id,
            CommitmentSought.answered_at,
            Delivery.n_attempts,
            ResultObject.sop_instance_uid,
        )
        .join(Delivery, Delivery.id == CommitmentSought.delivery_id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .where(CommitmentSought.transaction_uid == transaction_uid)
        .with_for_update(of=CommitmentSought)
    ).first()
    if asked is None:
        return False
    if asked.answered_at is not None:
        return True
    reason = failed.get(asked.sop_instance_uid)
    # One that is named in both sequences is not proved.
    if reason is not None:
        _enter(connection, transaction_uid, now, f"0x{reason:04X}")
        wait = min(_FIRST_RETRY * 2 ** min(max(asked.n_attempts, 1) - 1, 30), _LONGEST_RETRY)
        _send_again(connection, transaction_uid, asked.delivery_id, reason, now + wait)
    elif asked.sop_instance_uid in committed:
        _enter(connection, transaction_uid, now, None)
        _commit(connection, asked.delivery_id, now)
    return True


def _enter(
    connection: sa.Connection, transaction_uid: str, now: datetime, reason: str | None
) -> None:
    connection.execute(
        sa.update(CommitmentSought)
        .where(CommitmentSought.transaction_uid == transaction_uid)
        .values(answered_at=now, failure_reason=reason)
    )


def _commit(connection: sa.Connection, delivery_id: int, now: datetime) -> None:
    # Also of a dead letter: that the destination holds it is what counts.
    connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.state != DeliveryState.COMMITTED)
        .values(
            state=DeliveryState.COMMITTED,
            proof=Proof.COMMIT,
            committed_at=now,
            deadline_at=None,
            leased_until=None,
            last_error=None,
        )
    )


def _send_again(
    connection: sa.Connection,
    transaction_uid: str,
    delivery_id: int,
    reason: int,
    next_attempt_at: datetime,
) -> None:
    """Make the delivery pending, unless the destination was asked once more since."""
    this = sa.orm.aliased(CommitmentSought)
    later = sa.orm.aliased(CommitmentSought)
    overtaken = sa.exists().where(
        this.transaction_uid == transaction_uid,
        later.delivery_id == delivery_id,
        later.requested_at > this.requested_at,
    )
    meaning = _REASONS.get(reason, "see PS3.3 Section C.14.1.1")
    connection.execute(
        sa.update(Delivery)
        # An answer on an association of its own does not wait for the sender's lease to end.
        .where(Delivery.id == delivery_id, Delivery.state == DeliveryState.SENT, ~overtaken)
        .values(
            state=DeliveryState.PENDING,
            next_attempt_at=next_attempt_at,
            leased_until=None,
            last_status=f"0x{reason:04X}",
            last_error=f"storage commitment failed: 0x{reason:04X}, {meaning}",
        )
    )
