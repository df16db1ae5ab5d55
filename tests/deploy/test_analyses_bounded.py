"""How many analyses of one study a day brings, and that equal ones are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import sqlalchemy as sa

from db import create_engine
from db.schema import Analysis, Base, Instance, Series, Study
from deploy.own_results import own_devices
from deploy.receiving import enqueue_analyses
from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.jobs import JobQueue
from inference.objects.uids import device_uid
from inference.reading import ModelIdentity
from inference.settings import InferenceSettings
from scp.rules import Decision, Route
from scp.series import CompleteSeries

NOW = datetime.now(UTC)
BOTH = Decision(
    (Route("pneumothorax", "stat", False, "r"), Route("hemorrhage", "routine", False, "q")),
    ("r: read", "q: read"),
)


@dataclass
class Queue:
    """Takes what is enqueued."""

    analyses: list[str] = field(default_factory=list)

    def enqueue(self, _connection: sa.Connection, analysis_id: str, _priority: Any) -> None:
        self.analyses.append(analysis_id)

    def urge(self, _connection: sa.Connection, _analysis_id: str) -> bool:
        return False


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    return open_catalogue(InferenceSettings())


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(database_url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for study in ("1.1", "1.2"):
            connection.execute(
                sa.insert(Study).values(
                    study_instance_uid=study, received_at=NOW, last_received_at=NOW
                )
            )
            connection.execute(
                sa.insert(Series).values(
                    series_instance_uid=f"{study}.1", study_instance_uid=study, trace_id="t",
                    first_received_at=NOW, last_received_at=NOW,
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(Instance).values(
                    id=int(study[-1]), sop_instance_uid=f"{study}.1.1", sop_class_uid="1.2",
                    series_instance_uid=f"{study}.1", study_instance_uid=study,
                    transfer_syntax_uid="1.2", path=study, size_bytes=1, sha256="0",
                    received_at=NOW, association_id="t",
                )
            )  # fmt: skip
    yield engine
    engine.dispose()


def series(digest: str, study: str = "1.1") -> CompleteSeries:
    return CompleteSeries(f"{study}.1", study, "t", digest, (int(study[-1]),), 1, NOW)


def test_what_is_beyond_the_bound_is_not_asked_for_and_says_so(
    engine: sa.Engine, bundles: dict[str, Bundle]
) -> None:
    queue, bounded = Queue(), []
    on_complete = enqueue_analyses(
        bundles, cast(JobQueue, queue), 3, lambda: bounded.append("once")
    )
    with engine.begin() as connection:
        assert on_complete(connection, series("first"), BOTH) == BOTH
        second = on_complete(connection, series("second"), BOTH)
    assert [route.model for route in second.routes] == ["pneumothorax"]
    assert second.reasons[:2] == BOTH.reasons
    assert second.reasons[2].startswith("hemorrhage: not asked, 3 analyses of this study")
    assert "max_analyses_per_study_per_day" in json.loads(second.to_json())["reasons"][2]
    assert len(queue.analyses) == 3
    assert bounded == ["once"]
    with engine.begin() as connection:
        # What is known is not another one, another study has its own share ...
        assert on_complete(connection, series("first"), BOTH) == BOTH
        assert on_complete(connection, series("third", "1.2"), BOTH) == BOTH
        assert on_complete(connection, series("fourth"), BOTH).routes == ()
        # ... and so has another day.
        connection.execute(sa.update(Analysis).values(requested_at=NOW - timedelta(hours=25)))
        assert on_complete(connection, series("fourth"), BOTH) == BOTH
    assert len(queue.analyses) == len(set(queue.analyses)) == 7


def test_without_a_bound_there_is_none(engine: sa.Engine, bundles: dict[str, Bundle]) -> None:
    queue = Queue()
    on_complete = enqueue_analyses(bundles, cast(JobQueue, queue), 0)
    with engine.begin() as connection:
        for number in range(60):
            assert on_complete(connection, series(str(number)), BOTH) == BOTH
    assert len(queue.analyses) == 120


def test_own_devices_are_those_of_all_models_that_ever_were(
    engine: sa.Engine, bundles: dict[str, Bundle]
) -> None:
    on_complete = enqueue_analyses(bundles, cast(JobQueue, Queue()))
    with engine.begin() as connection:
        on_complete(connection, series("first"), BOTH)
        connection.execute(
            sa.update(Analysis)
            .where(Analysis.model_name == "hemorrhage")
            .values(model_version="0.0.0", weights_sha256="old")
        )
    with engine.connect() as connection:
        known = own_devices(bundles)(connection)
    assert known == {
        *(str(device_uid(bundle.identity)) for bundle in bundles.values()),
        str(device_uid(ModelIdentity("hemorrhage", "0.0.0", "old"))),
    }
