"""PostgreSQL frees the locks of who fell silent within a transaction, and others go on."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from db import create_engine
from db.faults import is_away
from db.migrate import upgrade

CHANGED = sa.text("UPDATE one SET number = number + 1")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_is_silent_within_a_transaction_holds_others_up_no_longer(database_url: str) -> None:
    frozen, other = create_engine(database_url, idle_seconds=0.5), create_engine(database_url)
    with other.begin() as connection:
        connection.execute(sa.text("CREATE TABLE one AS SELECT 0 AS number"))
    with frozen.connect() as silent:
        silent.execute(CHANGED)
        with other.begin() as connection:
            connection.execute(CHANGED)
        with pytest.raises(sa.exc.DBAPIError) as raised:
            silent.execute(CHANGED)
        assert is_away(raised.value)
    # What it had changed is gone with its session; it goes on with another.
    with frozen.begin() as connection:
        connection.execute(CHANGED)
        assert connection.execute(sa.text("SELECT number FROM one")).scalar_one() == 2
    for engine in (frozen, other):
        engine.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_upgrade_has_all_its_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[str] = []

    def look(config: object, _revision: str) -> None:
        connection = config.attributes["connection"]  # type: ignore[attr-defined]
        bounds.extend(
            connection.execute(sa.text(f"SHOW {name}")).scalar_one()
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        )

    monkeypatch.setattr("alembic.command.upgrade", look)
    engine = create_engine(database_url)
    upgrade(engine)
    engine.dispose()
    assert bounds == ["0", "0"]
