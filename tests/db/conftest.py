"""A migrated database of each kind: SQLite in a file, PostgreSQL as a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from db import create_engine
from db.migrate import upgrade


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """Engine on a database at the newest schema."""
    engine = create_engine(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()
