"""The migrations make exactly what the code declares, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from db import create_engine
from db.errors import DatabaseError, SchemaVersionError
from db.migrate import check, current, head, upgrade
from db.query import rows_of
from db.schema import Base
from db.views import VIEWS


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning", "ignore::UserWarning")
def test_migrated_tables_are_the_declared_ones(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        differences = compare_metadata(context, Base.metadata)
    # Indexes have a test of their own: those over expressions cannot be reflected everywhere.
    assert [entry for entry in differences if "index" not in str(entry[0])] == []


def test_every_declared_index_exists(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            found = set(
                connection.execute(
                    sa.text("SELECT name FROM sqlite_master WHERE type = 'index'")
                ).scalars()
            )
    else:
        found = {
            index["name"]
            for table in Base.metadata.tables
            for index in inspector.get_indexes(table)
        }
    declared = {index.name for table in Base.metadata.tables.values() for index in table.indexes}
    assert declared <= found


def test_every_column_of_every_view_is_documented(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        for view, columns in VIEWS.items():
            found = connection.execute(sa.text(f"SELECT * FROM {view}")).keys()
            assert list(found) == list(columns), view


def test_check_names_the_way_out(database_url: str) -> None:
    engine = create_engine(database_url)
    with pytest.raises(SchemaVersionError, match="preread db upgrade"):
        check(engine)
    upgrade(engine)
    check(engine)
    assert current(engine) == head()
    engine.dispose()


def test_upgrade_twice_and_at_once(database_url: str) -> None:
    engines = [create_engine(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, engines))
    check(engines[0])
    for engine in engines:
        engine.dispose()


def test_what_is_there_survives_every_step(database_url: str) -> None:
    engine = create_engine(database_url)
    upgrade(engine, "0002")
    now = "2026-05-01 12:00:00"
    rows = (
        f"INSERT INTO study (study_instance_uid, received_at, last_received_at) "
        f"VALUES ('1', '{now}', '{now}')",
        f"INSERT INTO series (series_instance_uid, study_instance_uid, first_received_at, "
        f"last_received_at, trace_id) VALUES ('1.2', '1', '{now}', '{now}', 't')",
        f"INSERT INTO analysis (id, study_instance_uid, series_instance_uid, model_name, "
        f"model_version, weights_sha256, configuration_digest, instance_digest, version, priority, "
        f"trace_id, received_at, requested_at) "
        f"VALUES ('a', '1', '1.2', 'm', '1', '0', '0', '0', 1, 'stat', 't', '{now}', '{now}')",
        f"INSERT INTO result_object (id, analysis_id, kind, sop_class_uid, sop_instance_uid, "
        f"series_instance_uid, path, size_bytes, sha256, created_at) "
        f"VALUES (1, 'a', 'sr', '1.88.34', '2.25.1', '2.25.2', 'p', 1, '0', '{now}')",
        f"INSERT INTO delivery (result_object_id, destination, next_attempt_at, created_at) "
        f"VALUES (1, 'pacs', '{now}', '{now}')",
    )
    with engine.begin() as connection:
        for row in rows:
            connection.execute(sa.text(row))
    upgrade(engine)
    with engine.connect() as connection:
        (row,) = rows_of(connection, "v_deliveries", order_by="delivery_id")
        assert (row["destination"], row["state"], row["proof"]) == ("pacs", "pending", None)
        (row,) = rows_of(connection, "v_destinations", order_by="destination")
        assert (row["state"], row["n_pending"], row["n_dead"]) == ("working", 1, 0)
    engine.dispose()


def test_findings_of_before_have_no_engine_and_views_of_people_stay(database_url: str) -> None:
    engine = create_engine(database_url)
    upgrade(engine, "0005")
    now = "2026-05-01 12:00:00"
    rows = [
        f"INSERT INTO study (study_instance_uid, received_at, last_received_at) "
        f"VALUES ('1', '{now}', '{now}')",
        f"INSERT INTO series (series_instance_uid, study_instance_uid, first_received_at, "
        f"last_received_at, trace_id) VALUES ('1.2', '1', '{now}', '{now}', 't')",
        f"INSERT INTO analysis (id, study_instance_uid, series_instance_uid, model_name, "
        f"model_version, weights_sha256, configuration_digest, instance_digest, version, priority, "
        f"trace_id, received_at, requested_at) "
        f"VALUES ('a', '1', '1.2', 'm', '1', '0', '0', '0', 1, 'stat', 't', '{now}', '{now}')",
        "INSERT INTO finding (analysis_id, study_instance_uid, label, code_value, code_scheme, "
        "code_meaning, scope, probability, threshold_low, threshold_high, presence) "
        "VALUES ('a', '1', 'any', '1', 'SCT', 'x', 'series', 0.7, 0.2, 0.6, 'Present')",
        f"INSERT INTO worker (id, host, pid, device, models, started_at, seen_at) "
        f"VALUES ('w', 'h', 1, 'cpu', 'm', '{now}', '{now}')",
    ]
    if engine.dialect.name == "postgresql":  # which would refuse to drop what this one needs
        rows.append("CREATE VIEW ours AS SELECT label, probability FROM v_findings")
    with engine.begin() as connection:
        for row in rows:
            connection.execute(sa.text(row))
        before = rows_of_5(connection)
    upgrade(engine)
    with engine.connect() as connection:
        (row,) = rows_of(connection, "v_findings", order_by="finding_id")
        assert {name: row[name] for name in before} == before
        assert [row[name] for name in row if name.startswith("engine")] == [None] * 5
        (worker,) = rows_of(connection, "v_workers", order_by="worker")
        assert (worker["worker"], worker["device"], worker["trouble"]) == ("w", "cpu", None)
        if engine.dialect.name == "postgresql":
            assert connection.execute(sa.text("SELECT label FROM ours")).scalar() == "any"
    engine.dispose()


def test_what_was_begun_before_attempts_were_counted_was_begun_once(database_url: str) -> None:
    engine = create_engine(database_url)
    upgrade(engine, "0007")
    now, later = "2026-05-01 12:00:00", "2026-05-01 12:00:30"
    rows = [
        f"INSERT INTO study (study_instance_uid, received_at, last_received_at) "
        f"VALUES ('1', '{now}', '{now}')",
        f"INSERT INTO series (series_instance_uid, study_instance_uid, first_received_at, "
        f"last_received_at, trace_id) VALUES ('1.2', '1', '{now}', '{now}', 't')",
        *(
            f"INSERT INTO analysis (id, study_instance_uid, series_instance_uid, model_name, "
            f"model_version, weights_sha256, configuration_digest, instance_digest, version, "
            f"priority, trace_id, received_at, requested_at, started_at, finished_at) "
            f"VALUES ('{name}', '1', '1.2', 'm', '1', '0', '0', '0', 1, 'stat', 't', '{now}', "
            f"'{now}', {times})"
            for name, times in (("a", f"'{now}', '{later}'"), ("b", "NULL, NULL"))
        ),
    ]
    if engine.dialect.name == "postgresql":  # which would refuse to drop what this one needs
        rows.append("CREATE VIEW ours AS SELECT analysis_id, analyse_seconds FROM v_turnaround")
    with engine.begin() as connection:
        for row in rows:
            connection.execute(sa.text(row))
    upgrade(engine)
    with engine.connect() as connection:
        done, waiting = sorted(
            rows_of(connection, "v_turnaround", order_by="requested_at"),
            key=lambda row: str(row["analysis_id"]),
        )
        assert (done["attempts"], done["analyse_seconds"], done["retry_seconds"]) == (1, 30, 0)
        assert done["started_at"] == done["first_started_at"] == done["requested_at"]
        assert (waiting["attempts"], waiting["started_at"]) == (0, None)
    engine.dispose()


def rows_of_5(connection: sa.Connection) -> dict[str, object]:
    """Return the finding as version 0005 shows it, without times."""
    row = connection.execute(sa.text("SELECT * FROM v_findings")).mappings().one()
    return {
        name: value
        for name, value in row.items()
        if not name.endswith("_at") and name not in ("shadow", "is_current")
    }


def test_a_newer_schema_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaVersionError, match="newer version"):
        upgrade(engine)


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db", "sqlite://"])
def test_a_wrong_url_names_the_setting(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"db\.url"):
        create_engine(url)
