"""Schema migrations with alembic, run from code: no alembic.ini to find or lose.

Alembic is imported where there is something to migrate; parts that only look do without.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from .errors import SchemaVersionError
from .revisions import current, head

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["check", "current", "head", "upgrade"]

_SCRIPTS = Path(__file__).with_name("migrations")
_LOCK_KEY = 7_317_031


def _config(connection: sa.Connection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the schema to `revision`; several processes may call this at once.

    Raises
    ------
    SchemaVersionError
        If the database is from a newer version of Preread.
    """
    from alembic import command

    _refuse_newer(engine)
    with engine.connect() as connection:
        # One migrator at a time: the second finds nothing left to do.
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            # However long the first takes: what the engine bounds has no bound here.
            for bound in ("lock_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(sa.text(f"SET LOCAL {bound} = 0"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        command.upgrade(_config(connection), revision)
        connection.commit()


def check(engine: sa.Engine) -> None:
    """Raise SchemaVersionError unless the schema is the one that this version needs."""
    found = current(engine)
    if found != head():
        raise SchemaVersionError(
            f"database schema is at {found}, this version needs {head()}: run `preread db upgrade`"
            if found
            else "the database has no tables of ours: is it the right one ([db] url, data_dir)? "
            "`preread up` makes them, and `preread db upgrade`"
        )


def _refuse_newer(engine: sa.Engine) -> None:
    from alembic.script import ScriptDirectory

    found = current(engine)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaVersionError(
            f"database schema {found} is from a newer version of Preread; install that version"
        )
