"""What waits for nobody is given up at its deadline, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from one_series import insert_analysis, insert_series

from db import left_over
from db.left_over import GivenUp
from db.schema import Delivery, Notification, ResultObject

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KNOWN = ("pacs", "ris")
OVER: dict[str, Any] = {"deadline_at": NOW}

Put = Callable[..., None]


@pytest.fixture
def put(engine: sa.Engine) -> Put:
    """Enter a delivery and a notification for the same name."""
    with engine.begin() as connection:
        insert_series(connection, NOW, study="1", series="1.2")
        insert_analysis(connection, NOW, study="1", series="1.2", trace_id="trace")
        connection.execute(
            sa.insert(ResultObject).values(
                analysis_id="a", kind="sr", sop_class_uid="1.2", sop_instance_uid="1.1",
                series_instance_uid="1.9", path="p", size_bytes=1, sha256="0", created_at=NOW,
            )
        )  # fmt: skip

    def enter(name: str, **changes: Any) -> None:
        values = {"next_attempt_at": NOW, "created_at": NOW, **changes}
        with engine.begin() as connection:
            connection.execute(
                sa.insert(Delivery).values(result_object_id=1, destination=name, **values)
            )
            connection.execute(
                sa.insert(Notification).values(analysis_id="a", target=name, **values)
            )

    return enter


@pytest.mark.parametrize(
    "changes",
    [
        {"deadline_at": None},
        {"deadline_at": NOW + HOUR},
        {**OVER, "leased_until": NOW + HOUR},  # somebody is at it: other settings, elsewhere
        {**OVER, "state": "dead"},
    ],
    ids=["no deadline", "not yet", "leased", "dead"],
)
def test_what_is_left_alone(engine: sa.Engine, put: Put, changes: dict[str, Any]) -> None:
    put("pacs", **OVER)
    put("gone", **changes)
    with engine.begin() as connection:
        assert left_over.expire_deliveries(connection, KNOWN, NOW) == []
        assert left_over.expire_notifications(connection, KNOWN, NOW) == []


def test_what_is_over_is_given_up_once(engine: sa.Engine, put: Put) -> None:
    for name in ("gone", "ris", "other"):
        put(name, **OVER)
    for of in ("destination", "target"):
        expire = (
            left_over.expire_deliveries if of == "destination" else left_over.expire_notifications
        )
        with engine.begin() as connection:
            found = expire(connection, KNOWN, NOW)
        reason = "gone is not in the settings any more"
        assert found[0] == GivenUp(1, "gone", "trace", f"{of} {reason}")
        assert [one.name for one in found] == ["gone", "other"]
        with engine.begin() as connection:
            assert expire(connection, KNOWN, NOW) == []
    for table in (Delivery, Notification):
        with engine.connect() as connection:
            rows = connection.execute(
                sa.select(table.state, table.last_error).order_by(table.id)
            ).all()
        assert [row.state for row in rows] == ["dead", "pending", "dead"]
        assert rows[1].last_error is None
        assert "gone is not in the settings" in str(rows[0].last_error)


def test_without_any_name_all_are_unknown(engine: sa.Engine, put: Put) -> None:
    put("gone", **OVER)
    with engine.begin() as connection:
        assert left_over.deliveries_left(connection, ()) == {"gone": 1}
        assert left_over.notifications_left(connection, ()) == {"gone": 1}
        assert left_over.deliveries_left(connection, ("gone",)) == {}
        assert len(left_over.expire_deliveries(connection, (), NOW)) == 1
        assert len(left_over.expire_notifications(connection, (), NOW)) == 1
        assert left_over.deliveries_left(connection, ()) == {}
        assert left_over.notifications_left(connection, ()) == {}
