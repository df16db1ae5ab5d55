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


def test_a_newer_schema_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaVersionError, match="newer version"):
        upgrade(engine)


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db", "sqlite://"])
def test_a_wrong_url_names_the_setting(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"db\.url"):
        create_engine(url)
