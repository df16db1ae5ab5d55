"""What readers need of stored files, kept as the bytes that they made of it.

The rows can be deleted at any time: they are made again from the files. Nobody waits for them when
an image is received.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .schema import Instance, InstanceFacts

# Values in one statement; SQLite takes 32,766 at most.
_AT_ONCE = 500


def facts_of(connection: sa.Connection, instance_ids: Sequence[int]) -> dict[int, bytes]:
    """Return what is kept of these instances, by `Instance.id`; empty bytes: there is nothing."""
    found: dict[int, bytes] = {}
    for start in range(0, len(instance_ids), _AT_ONCE):
        wanted = InstanceFacts.instance_id.in_(instance_ids[start : start + _AT_ONCE])
        query = sa.select(InstanceFacts.instance_id, InstanceFacts.facts).where(wanted)
        found |= {row.instance_id: bytes(row.facts) for row in connection.execute(query)}
    return found


def keep_facts(connection: sa.Connection, facts: Mapping[int, bytes]) -> None:
    """Keep facts by `Instance.id`, instead of what was kept before."""
    if not facts:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    new = insert(InstanceFacts)
    statement = new.on_conflict_do_update(
        index_elements=["instance_id"], set_={"facts": new.excluded.facts}
    )
    # In the order of their keys, so that two that keep the same do not wait for each other.
    rows = [{"instance_id": key, "facts": value} for key, value in sorted(facts.items())]
    connection.execute(statement, rows)


def latest_instance(connection: sa.Connection) -> int:
    """Return the highest `Instance.id`, 0 if there is none."""
    return connection.execute(sa.select(sa.func.max(Instance.id))).scalar() or 0


def without_facts(connection: sa.Connection, after: int, limit: int) -> list[tuple[int, str]]:
    """Return `Instance.id`, above `after`, and path of instances of which nothing is kept.

    In the order of their ids, so that who asks again and again never looks at the old ones.
    """
    query = (
        sa.select(Instance.id, Instance.path)
        .outerjoin(InstanceFacts, InstanceFacts.instance_id == Instance.id)
        .where(
            Instance.id > after,
            InstanceFacts.instance_id.is_(None),
            Instance.missing_at.is_(None),
        )
        .order_by(Instance.id)
        .limit(limit)
    )
    return [(row.id, row.path) for row in connection.execute(query)]
