"""``preread deliveries`` and ``preread destinations``: every state with its reason, and retries."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from one_series import insert_analysis, insert_series
from typer.testing import CliRunner

from db import commitments, create_engine, deliveries, health
from db.errors import SchemaVersionError
from db.migrate import upgrade
from db.schema import Analysis, Delivery, ResultObject, Series
from deploy.check import Verdict
from deploy.cli import app
from deploy.doctor_destinations import examine_left_over
from deploy.errors import DeployError
from deploy.left_over import LeftOver
from deploy.settings import load
from scp.places import places

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SETTINGS = """
[[ae]]
name = "CT1"
host = "ct1"
port = 104
[[destination]]
name = "pacs"
ae_title = "PACS"
host = "pacs"
port = 104
deadline_hours = 2
[[destination]]
name = "back"
reply = true
"""


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    upgrade(engine)
    with engine.begin() as connection:
        insert_series(connection, NOW, study="1.2.840.1", series="1.2")
        insert_analysis(connection, NOW, "a" * 64, study="1.2.840.1", series="1.2")
        for number, place in enumerate(("pacs", "pacs", "gone", "back:CT1"), 1):
            connection.execute(
                sa.insert(ResultObject).values(
                    analysis_id="a" * 64, kind="sr", sop_class_uid="1.9",
                    sop_instance_uid=f"2.25.{number}", series_instance_uid="2.25.99",
                    path=f"results/{number}.dcm", size_bytes=1, sha256="0", created_at=NOW,
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(Delivery).values(
                    result_object_id=number, destination=place, next_attempt_at=NOW,
                    created_at=NOW, deadline_at=NOW + timedelta(hours=2),
                )
            )  # fmt: skip
    return engine


@pytest.fixture
def run(engine: sa.Engine, tmp_path: Path) -> Callable[..., str]:
    config = tmp_path / "preread.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n{SETTINGS}')

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--config", str(config)])
        if done.exception is not None:
            raise done.exception
        return " ".join(done.stdout.split())

    return call


def begin(connection: sa.Connection, number: int) -> None:
    """Somebody is at a delivery."""
    connection.execute(sa.update(Delivery).where(Delivery.id == number).values(leased_until=NOW))


def kill(engine: sa.Engine, number: int, reason: str) -> None:
    with engine.begin() as connection:
        begin(connection, number)
        deliveries.mark_failed(connection, number, reason, status="0xA700", next_attempt_at=None)


def test_a_dead_letter_is_explained_in_words(engine: sa.Engine, run: Callable[..., str]) -> None:
    with engine.begin() as connection:
        commitments.note_sought(connection, "9.1", 1, NOW)
        deliveries.mark_sent(connection, 1, "0x0000", NOW, final=False)
        commitments.record_answer(connection, "9.1", (), {"2.25.1": 0x0112}, NOW)
        commitments.note_sought(connection, "9.2", 1, NOW)
        health.note_failure(connection, "pacs", "association rejected", NOW, NOW)
    kill(engine, 1, "the destination refused the object with 0xA700, out of resources")
    said = run("deliveries", "show", "1")
    for part in (
        "sr 2.25.1 of study 1.2.840.1",
        "to pacs (PACS at pacs:104)",
        "asked for 2026-05-01 12:00:00 UTC",
        "state: dead",
        "last status 0xA700",
        "why: the destination refused the object with 0xA700, out of resources",
        "why: storage commitment was answered with 0x0112",
        "1 request(s) not answered",
        "waiting since 2026-05-01 12:00:00 UTC: association rejected",
        "way out: when the destination takes it (preread doctor): preread deliveries retry 1",
    ):
        assert part in said, part


def test_a_fault_asks_for_more_than_a_retry(engine: sa.Engine, run: Callable[..., str]) -> None:
    with engine.begin() as connection:
        deliveries.note_fault(connection, 1, "its SHA-256 has changed")
    kill(engine, 1, "not sent: its SHA-256 has changed")
    said = run("deliveries", "show", "1")
    assert "the object has a fault: its SHA-256 has changed" in said
    assert "bring its file back from a backup" in said


def test_other_states_have_words_too(engine: sa.Engine, run: Callable[..., str]) -> None:
    assert "pending, next attempt 2026-05-01 12:00:00 UTC, given up" in run(
        "deliveries", "show", "1"
    )
    assert "nothing is sent to gone until it is in the settings again" in run(
        "deliveries", "show", "3"
    )
    with pytest.raises(DeployError, match="there is no delivery 99"):
        run("deliveries", "show", "99")


def test_a_delivery_waits_for_its_destination(engine: sa.Engine, run: Callable[..., str]) -> None:
    later = NOW + timedelta(minutes=7)
    with engine.begin() as connection:
        health.note_failure(connection, "pacs", "association rejected", NOW, later)
        begin(connection, 1)
        deliveries.mark_failed(
            connection, 1, "association rejected", status=None, next_attempt_at=NOW
        )
    said = run("deliveries", "show", "1")
    assert "pending, next attempt 2026-05-01 12:07:00 UTC" in said
    assert said.count("association rejected") == 1


def test_the_list_says_proof_and_reason(engine: sa.Engine, run: Callable[..., str]) -> None:
    with engine.begin() as connection:
        commitments.note_sought(connection, "9.1", 2, NOW)
        commitments.record_answer(connection, "9.1", ["2.25.2"], {}, NOW)
    kill(engine, 1, "refused")
    said = run("deliveries", "list")
    assert "committed commit" in said
    assert "refused" in said
    assert "committed" not in run("deliveries", "list", "--state", "dead")


def test_the_list_of_one_study_for_a_program(engine: sa.Engine, run: Callable[..., str]) -> None:
    kill(engine, 1, "refused")
    rows = json.loads(run("deliveries", "list", "--study", "1.2.840.1", "--format", "json"))
    assert [row["delivery_id"] for row in rows] == [4, 3, 2, 1]
    assert (rows[-1]["sop_instance_uid"], rows[-1]["last_error"]) == ("2.25.1", "refused")
    assert json.loads(run("deliveries", "list", "--study", "1.9", "--format", "json")) == []
    head = run("deliveries", "list", "--state", "dead", "--format", "csv").split()[0]
    assert head.startswith("delivery_id,destination,kind,sop_instance_uid")


def test_a_study_is_told_whole(engine: sa.Engine, run: Callable[..., str]) -> None:
    """Every object with its whole UID, what waits for it, and why a series is not read."""
    parked = {"routes": [], "reasons": ["rule head-ct: BodyPartExamined is ABDOMEN"]}
    with engine.begin() as connection:
        connection.execute(
            sa.insert(Series).values(
                series_instance_uid="1.3", study_instance_uid="1.2.840.1", trace_id="t",
                modality="CT", first_received_at=NOW, last_received_at=NOW, state="complete",
                completed_at=NOW, routing=json.dumps(parked),
            )
        )  # fmt: skip
        deliveries.note_fault(connection, 2, "its SHA-256 has changed")
    kill(engine, 1, "refused")
    said = run("show", "1.2.840.1")
    for part in (
        "study 1.2.840.1: receiving",
        "series 1.2: receiving",
        "analysis aaaaaaaaaaaa, m 1, version 1: pending",
        "series 1.3: parked CT, 0 instances rule head-ct: BodyPartExamined is ABDOMEN",
        "sr 2.25.1 of analysis aaaaaaaaaaaa, pacs: dead",
        "not to be sent: its SHA-256 has changed, pacs: pending",
    ):
        assert part in said, said
    with pytest.raises(DeployError, match=r"1\.9 is no file, and no result object or study"):
        run("show", "1.9")


def test_objects_of_an_analysis_that_a_newer_one_replaced_are_not_current(
    engine: sa.Engine,
) -> None:
    def current() -> list[bool]:
        with engine.connect() as connection:
            query = sa.text("SELECT is_current FROM v_objects ORDER BY object_id")
            return [bool(one) for one in connection.execute(query).scalars()]

    later = {"id": "b" * 64, "version": 2, "instance_digest": "1"}
    with engine.begin() as connection:
        copied = connection.execute(sa.select(Analysis.__table__)).mappings().one()
        connection.execute(sa.insert(Analysis).values({**copied, **later}))
    assert current() == [True] * 4
    with engine.begin() as connection:
        newer = sa.update(Analysis).where(Analysis.version == 2)
        connection.execute(newer.values(state="done"))
    assert current() == [False] * 4


def test_a_fresh_folder_says_what_makes_the_tables(tmp_path: Path) -> None:
    config = tmp_path / "preread.toml"
    config.write_text(f'data_dir = "{tmp_path / "new"}"\n')
    for command in (["results"], ["deliveries", "list"], ["show", "1.2"]):
        done = CliRunner().invoke(app, [*command, "--config", str(config)])
        assert isinstance(done.exception, SchemaVersionError)
        assert "`preread up` makes them" in str(done.exception)


def test_retries_of_one_of_some_and_of_all(engine: sa.Engine, run: Callable[..., str]) -> None:
    def states() -> list[str]:
        with engine.connect() as connection:
            query = sa.select(Delivery.state).order_by(Delivery.id)
            return [str(state) for state in connection.execute(query).scalars()]

    for number in (1, 2, 3, 4):
        kill(engine, number, "x")
    assert run("deliveries", "retry", "1") == "delivery 1 is pending again"
    assert states() == ["pending", "dead", "dead", "dead"]
    with engine.connect() as connection:
        query = sa.select(Delivery.deadline_at).where(Delivery.id == 1)
        deadline = connection.execute(query).scalar_one()
    assert deadline is not None
    assert timedelta(hours=1) < deadline - datetime.now(UTC) < timedelta(hours=2)
    said = run("deliveries", "retry", "--all", "--destination", "pacs")
    assert said == "1 dead letters are pending again"
    assert run("deliveries", "retry", "--all") == "2 dead letters are pending again"
    assert states() == ["pending"] * 4
    for wrong in (["1"], [], ["1", "--all"], ["1", "--destination", "pacs"]):
        with pytest.raises(DeployError):
            run("deliveries", "retry", *wrong)


def test_destinations_of_the_settings_and_of_the_past(
    engine: sa.Engine, run: Callable[..., str]
) -> None:
    with engine.begin() as connection:
        health.note_failure(connection, "pacs", "cannot connect", NOW, NOW)
    lines = run("destinations")
    assert "back:CT1 working" in lines
    assert "gone not in the settings 1 0 0 0 nobody delivers there; given up at" in lines
    assert "pacs waiting 2026-05-01 12:00:00 2026-05-01 12:00:00 2 0 0 0 cannot connect" in lines
    with engine.begin() as connection:
        connection.execute(sa.delete(Delivery).where(Delivery.destination == "back:CT1"))
    assert "back:CT1 not used yet" in run("destinations")


def test_what_waits_for_a_destination_of_the_past_is_told_and_given_up(
    engine: sa.Engine, run: Callable[..., str], tmp_path: Path
) -> None:
    loaded = load(tmp_path / "preread.toml")
    (found,) = examine_left_over(loaded, engine)
    assert found.verdict is Verdict.WARNING
    assert found.message.startswith("1 wait for gone, which is not in the settings any more")
    known = [place.name for place in places(loaded.destination, loaded.ae)]
    now = NOW
    part = LeftOver(engine, known, (), lambda: now)
    assert part.run_once() == 0
    now += timedelta(hours=2)
    assert part.run_once() == 1
    assert "destination gone is not in the settings any more" in run("deliveries", "show", "3")
    assert "gone not in the settings 0 0 0 1" in run("destinations")
    assert not list(examine_left_over(loaded, engine))


def test_it_is_looked_for_from_the_start(engine: sa.Engine) -> None:
    looked = threading.Event()

    def clock() -> datetime:
        looked.set()
        return NOW

    part = LeftOver(engine, (), (), clock)
    part.start()
    assert looked.wait(30)
    part.stop()
