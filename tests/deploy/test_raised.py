"""What was asked for as routine and is STAT by now: raised while it waits, and never lowered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from db import create_engine
from db.migrate import upgrade
from db.outcomes import Outcome, record_outcome
from db.schema import Analysis, AnalysisState, Instance, Series, Study
from deploy.receiving import enqueue_analyses
from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.jobs import JobQueue, prepare
from inference.settings import InferenceSettings
from scp.rules import Decision, Priority, Route
from scp.series import CompleteSeries

NOW = datetime.now(UTC)
SERIES = CompleteSeries("1.1.1", "1.1", "t" * 32, "digest", (1,), 1, NOW)


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    return open_catalogue(InferenceSettings())


class Asked:
    """A database in which one series was completed, and may be completed again."""

    def __init__(self, engine: sa.Engine, bundles: dict[str, Bundle]) -> None:
        self.engine = engine
        self.queue = JobQueue(engine)
        self._on_complete = enqueue_analyses(bundles, self.queue)
        self._schema = "" if engine.dialect.name == "sqlite" else "dbos."

    def ask(self, priority: Priority, *, fails: bool = False) -> list[str]:
        """Complete the series; return what is said of its analysis."""
        decision = Decision((Route("pneumothorax", priority, False, f"r-{priority}"),), ())
        with capture_logs() as told, self.engine.connect() as connection:
            self._on_complete(connection, SERIES, decision)
            if fails:
                connection.rollback()
            connection.commit()
        assert all(one["analysis"] == self.analysis[:12] for one in told)
        return [one["event"] for one in told]

    @property
    def analysis(self) -> str:
        with self.engine.connect() as connection:
            return str(connection.execute(sa.select(Analysis.id)).scalar_one())

    @property
    def priorities(self) -> tuple[str, str]:
        """What our table says, and the queue in which the job waits or waited."""
        with self.engine.connect() as connection:
            said = connection.execute(sa.select(Analysis.priority)).scalar_one()
            queue = connection.execute(
                sa.text(f"SELECT queue_name FROM {self._schema}workflow_status")
            ).scalar_one()
        return str(said), str(queue)

    def take(self) -> None:
        """Let a worker begin it."""
        with self.engine.begin() as connection:
            connection.execute(
                sa.text(
                    f"UPDATE {self._schema}workflow_status SET status = 'PENDING', "
                    "executor_id = 'w-0'"
                )
            )


@pytest.fixture
def asked(database_url: str, bundles: dict[str, Bundle]) -> Iterator[Asked]:
    engine = create_engine(database_url)
    upgrade(engine)
    prepare(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(Study).values(study_instance_uid="1.1", received_at=NOW, last_received_at=NOW)
        )
        connection.execute(
            sa.insert(Series).values(
                series_instance_uid="1.1.1", study_instance_uid="1.1", trace_id="t" * 32,
                first_received_at=NOW, last_received_at=NOW,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(Instance).values(
                id=1, sop_instance_uid="1.1.1.1", sop_class_uid="1.2", series_instance_uid="1.1.1",
                study_instance_uid="1.1", transfer_syntax_uid="1.2", path="p", size_bytes=1,
                sha256="0", received_at=NOW, association_id="a",
            )
        )  # fmt: skip
    made = Asked(engine, bundles)
    yield made
    made.queue.close()
    engine.dispose()


def test_what_waits_is_raised_once_and_never_lowered(asked: Asked) -> None:
    assert asked.ask("routine") == ["analysis.requested"]
    assert asked.priorities == ("routine", "analyse")
    assert asked.ask("routine") == ["analysis.known"]
    assert asked.ask("stat") == ["analysis.known", "analysis.raised"]
    assert asked.priorities == ("stat", "stat")
    assert asked.ask("stat") == ["analysis.known"]
    assert asked.ask("routine") == ["analysis.known"]
    assert asked.priorities == ("stat", "stat")


def test_a_completion_that_is_taken_back_raises_nothing(asked: Asked) -> None:
    asked.ask("routine")
    asked.ask("stat", fails=True)
    assert asked.priorities == ("routine", "analyse")


def test_what_runs_is_left_and_is_raised_if_it_waits_again(asked: Asked) -> None:
    asked.ask("routine")
    asked.take()
    assert asked.ask("stat") == ["analysis.known"]
    assert asked.priorities == ("routine", "analyse")
    with asked.engine.begin() as connection:  # its worker is killed
        assert asked.queue.take_over(connection, "w-0") == (asked.analysis,)
    assert asked.ask("stat") == ["analysis.known", "analysis.raised"]
    assert asked.priorities == ("stat", "stat")


def test_what_was_cancelled_is_not_raised(asked: Asked) -> None:
    asked.ask("routine")
    cancelled = Outcome(AnalysisState.CANCELLED, reason_code="cancelled", reason="by a person")
    with asked.engine.begin() as connection:
        assert record_outcome(connection, asked.analysis, cancelled)
    assert asked.ask("stat") == ["analysis.known"]
    with asked.engine.begin() as connection:
        asked.queue.cancel(connection, asked.analysis)
    assert asked.ask("stat") == ["analysis.known"]
    assert asked.priorities[0] == "routine"
