"""What every part of a node stands on: the file store and a database of the right schema."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

import sqlalchemy as sa
import structlog

from db import FileStore, create_engine
from db.errors import DatabaseError, SchemaVersionError
from db.migrate import check, current, head, upgrade

from .settings import Settings

_log = structlog.get_logger()
# Names the database that this data directory was last used with.
_MARK = "database"
_RETRY_SECONDS = 1.0
_SAY_AGAIN_SECONDS = 60.0
# How long to wait for a connection where images wait meanwhile, or a stop does.
_SHORT_WAIT_SECONDS = 5.0
_RECEIVING_POOL = 2


@dataclass(frozen=True, slots=True)
class Ground:
    """What every part stands on.

    Attributes
    ----------
    is_ready : bool
        False while the database is away; then its schema has not been looked at.
    """

    settings: Settings
    engine: sa.Engine
    files: FileStore
    is_ready: bool = True


@contextmanager
def ground(
    settings: Settings, *, pool_size: int | None = None, may_be_away: bool = False
) -> Iterator[Ground]:
    """Open the file store and the database; bring or hold the schema to this version.

    Parameters
    ----------
    settings : Settings
    pool_size : int, optional
        Instead of ``db.pool_size``.
    may_be_away : bool
        Go on without the database, if this data directory was used with it before: receiving
        needs it only later. One that was never reached is more likely a wrong ``db.url``.

    Raises
    ------
    db.DatabaseError
        If the data directory cannot be used or the schema does not fit.
    sqlalchemy.exc.OperationalError
        If the database is away.
    """
    files = FileStore(settings.data_dir)
    files.prepare()
    is_ready = True
    try:
        _hold_schema(settings)
    except sa.exc.OperationalError as error:
        if not (may_be_away and _was_seen(settings)):
            raise
        is_ready = False
        _log.warning("database.away", error=type(error).__name__)
    engine = create_engine(settings.db_url, pool_size=pool_size or settings.db.pool_size)
    try:
        yield Ground(settings, engine, files, is_ready)
    finally:
        engine.dispose()


def _hold_schema(settings: Settings) -> None:
    """Bring the schema to this version, or see that it is there; remember the database."""
    engine = create_engine(settings.db_url, pool_size=1, wait_seconds=_SHORT_WAIT_SECONDS)
    try:
        # Writing is for upgrades only: a part that comes back must not wait for a busy database.
        if settings.db.auto_upgrade and current(engine) != head():
            upgrade_all(engine)
        check(engine)
    finally:
        engine.dispose()
    _remember(settings)


def upgrade_all(engine: sa.Engine) -> None:
    """Bring the tables of the job engine and ours up to date; ours last, because they say so."""
    # The job engine takes long to import, and almost every start finds the schema as it should be.
    from inference.jobs import prepare

    prepare(engine)
    upgrade(engine)


def wait_for_schema(base: Ground, stop: Event) -> bool:
    """Return True once the database is there with this version's schema, False on `stop`.

    A schema of another version does not end the wait: images that are received meanwhile are kept.
    """
    silent = _SAY_AGAIN_SECONDS
    while not stop.wait(_RETRY_SECONDS):
        silent += _RETRY_SECONDS
        try:
            _hold_schema(base.settings)
        except (SchemaVersionError, sa.exc.SQLAlchemyError) as error:
            if silent >= _SAY_AGAIN_SECONDS:
                silent = 0.0
                known = isinstance(error, DatabaseError)
                reason = str(error) if known else type(error).__name__
                _log.warning("database.awaited", reason=reason)
        else:
            _log.info("database.back")
            return True
    return False


def receiving_engine(settings: Settings) -> sa.Engine:
    """Return the engine of instance rows; short waits, and only a schema of this version.

    The schema is asked for with each new connection, because rows are also written after the
    database was away, and what comes back then may be another one. A wrong one counts as away:
    rows wait in the backlog.
    """
    engine = create_engine(
        settings.db_url, pool_size=_RECEIVING_POOL, wait_seconds=_SHORT_WAIT_SECONDS
    )
    needed, errors = head(), engine.dialect.loaded_dbapi

    def look(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT version_num FROM alembic_version")
            found = cursor.fetchone()
        except errors.Error as error:
            raise errors.OperationalError("the schema cannot be read") from error
        finally:
            cursor.close()
            with suppress(errors.Error):
                connection.rollback()
        if found is None or found[0] != needed:
            raise errors.OperationalError("the schema is of another version")

    sa.event.listen(engine, "connect", look)
    return engine


def _remember(settings: Settings) -> None:
    if _was_seen(settings):
        return
    # Several parts may do this at once; each writes the same. On a full disk it waits for another
    # start: nothing but a start without the database needs it.
    folder = settings.data_dir.absolute()
    made = folder / f".{_MARK}-{os.getpid()}-{secrets.token_hex(4)}"
    with suppress(OSError):
        made.write_text(_name(settings), encoding="utf-8")
        made.replace(folder / _MARK)
    made.unlink(missing_ok=True)


def _was_seen(settings: Settings) -> bool:
    try:
        return (settings.data_dir / _MARK).read_text(encoding="utf-8") == _name(settings)
    except OSError:
        return False


def _name(settings: Settings) -> str:
    return sa.make_url(settings.db_url).render_as_string(hide_password=True) + "\n"
