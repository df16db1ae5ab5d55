"""The same report in another SOP class, for destinations that take no better.

It is made once, kept like any result object, and from then on it is what is delivered.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from .incoming import StoredFile
from .schema import Delivery, DeliveryState, ResultObject


@dataclass(frozen=True, slots=True)
class KeptObject:
    """A result object as it is stored."""

    id: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: str
    sha256: str
    fault: str | None


_COLUMNS = tuple(getattr(ResultObject, name) for name in KeptObject.__slots__)


def kept_object(connection: sa.Connection, object_id: int) -> KeptObject:
    """Return the result object of that row number."""
    row = connection.execute(sa.select(*_COLUMNS).where(ResultObject.id == object_id)).one()
    return KeptObject(*row)


def fallback_of(connection: sa.Connection, root_id: int, sop_class_uid: str) -> KeptObject | None:
    """Return the fallback of a report in a SOP class, if it was made before."""
    row = connection.execute(
        sa.select(*_COLUMNS).where(
            ResultObject.fallback_of_id == root_id, ResultObject.sop_class_uid == sop_class_uid
        )
    ).first()
    return KeptObject(*row) if row is not None else None


def add_fallback(
    connection: sa.Connection,
    root_id: int,
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    series_instance_uid: str,
    stored: StoredFile,
    now: datetime,
) -> KeptObject:
    """Enter a fallback whose file is durable; whoever comes second gets the row of the first."""
    root = connection.execute(
        sa.select(ResultObject.analysis_id, ResultObject.kind)
        .where(ResultObject.id == root_id)
        # Two senders make the same fallback one after the other.
        .with_for_update()
    ).one()
    if (known := fallback_of(connection, root_id, sop_class_uid)) is not None:
        return known
    number = connection.execute(
        sa.insert(ResultObject)
        .values(
            analysis_id=root.analysis_id,
            kind=root.kind,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            series_instance_uid=series_instance_uid,
            path=stored.path,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            created_at=now,
            fallback_of_id=root_id,
        )
        .returning(ResultObject.id)
    ).scalar_one()
    return kept_object(connection, number)


def switch_object(connection: sa.Connection, delivery_id: int, object_id: int) -> None:
    """Deliver another object from now on, such as a fallback."""
    connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.state != DeliveryState.COMMITTED)
        .values(result_object_id=object_id)
    )
