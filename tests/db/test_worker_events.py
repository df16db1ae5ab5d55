"""Events of workers: kept, counted, bounded; and what is known of workers themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from db.query import rows_of
from db.worker_events import WorkerEventRecord, WorkerStep, add, count, prune
from db.workers import WorkerIdentity, enter, set_trouble, workers

NOW = datetime.now(UTC)


def event(step: str = WorkerStep.SMALLER, **given: object) -> WorkerEventRecord:
    values = {"at": NOW, "worker": "host-cuda0", "step": step, "reason": "no memory", **given}
    return WorkerEventRecord(**values)  # type: ignore[arg-type]


def test_events_are_read_in_their_view_and_counted(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        add(connection, ())
        add(
            connection,
            [
                event(engine="torch-cuda", device="cuda:0", n_rows=8, analysis_id="a"),
                event(WorkerStep.STUCK, analysis_id="a"),
                event(WorkerStep.STUCK, analysis_id="b", reason="x" * 5000),
                event(WorkerStep.DEVICE_LOST, device="cuda:0"),
                event(WorkerStep.DEVICE_LOST, device="cuda:0", at=NOW - timedelta(hours=2)),
                event(WorkerStep.DEVICE_LOST, device="cuda:0", worker="host2-cuda0"),
                event(WorkerStep.DEVICE_LOST, device="cuda:1"),
            ],
        )
        rows = rows_of(connection, "v_worker_events", order_by="event_id")[::-1]
        assert (rows[0]["step"], rows[0]["n_rows"], rows[0]["engine"]) == (
            "smaller_batch", 8, "torch-cuda",
        )  # fmt: skip
        assert rows[0]["at"] == NOW
        assert rows[0]["study_instance_uid"] is None
        assert len(rows[2]["reason"]) == 1000
        assert count(connection, WorkerStep.STUCK, analysis_id="a") == 1
        hour = NOW - timedelta(hours=1)
        lost = WorkerStep.DEVICE_LOST
        assert count(connection, lost, device="cuda:0", host="host", since=hour) == 1
        assert count(connection, lost, device="cuda:0", since=hour) == 2
        assert count(connection, lost) == 4


def test_the_table_is_bounded_by_age_and_number(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        add(connection, [event(at=NOW - timedelta(days=99.5 - day)) for day in range(20)])
        assert prune(connection) == 10
        assert prune(connection) == 0
        assert prune(connection, most=4) == 6
        left = rows_of(connection, "v_worker_events", order_by="event_id")
        assert [row["at"] for row in left] == [
            NOW - timedelta(days=d) for d in (80.5, 81.5, 82.5, 83.5)
        ]


def test_a_worker_says_on_what_it_runs_and_why(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        enter(connection, WorkerIdentity("w", "host", 1, "cpu", ("m",), "cuda:0", "it is gone"))
        enter(connection, WorkerIdentity("g", "host", 2, "cuda:0", ("m",)))
        set_trouble(connection, "g", "the GPU is lost")
        assert [(one.id, one.wanted_device, one.trouble) for one in workers(connection)] == [
            ("g", None, "the GPU is lost"),
            ("w", "cuda:0", "it is gone"),
        ]
        rows = rows_of(connection, "v_workers", order_by="worker")
        assert [row["trouble"] for row in rows] == ["it is gone", "the GPU is lost"]
