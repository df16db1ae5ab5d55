"""Files that are not what was received any more: put aside, so that another sending heals them.

The row stays and says that its file is missing; the same bytes, sent again, become its file again
(`db.instances`). Nothing is deleted: what is left of the file goes into quarantine.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from . import inventory
from .commitments_asked import HeldRevision
from .files import FileStore
from .schema import Instance


class FileSeen(NamedTuple):
    """Which file stood under a name, and since when it was as it is."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int


class TakenOut(NamedTuple):
    """What became of a file: where it lies now, None if there was none to move."""

    quarantined: str | None


def file_seen(files: FileStore, path: str) -> FileSeen:
    """Return which file has a stored path now.

    Raises
    ------
    OSError
        If there is none, or it cannot be looked at.
    """
    found = (files.root / path).stat()
    return FileSeen(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def take_out(
    engine: sa.Engine,
    files: FileStore,
    damaged: HeldRevision,
    seen: FileSeen | None,
    at: datetime,
) -> TakenOut | None:
    """Move a damaged file into quarantine and mark its row missing, if both are as they were found.

    Others may have found the same, and the image may have been sent again since. The row is locked
    by its change before the file is looked at once more: of several that found it one moves it, and
    never the whole file that came in its place.

    Parameters
    ----------
    seen : FileSeen or None
        The file that was found damaged; None: there was none.

    Returns
    -------
    TakenOut or None
        None if row or file has changed meanwhile: nothing was done.

    Raises
    ------
    OSError
        If the file cannot be moved; the row is as it was.
    sqlalchemy.exc.SQLAlchemyError
        If the row cannot be written. A file that was moved before is found gone the next time.
    """
    with engine.connect() as connection, connection.begin() as transaction:
        marked = connection.execute(
            sa.update(Instance)
            .where(
                Instance.id == damaged.id,
                Instance.path == damaged.path,
                Instance.missing_at.is_(None),
            )
            .values(missing_at=at)
        )
        if not marked.rowcount or _now(files, damaged.path) != seen:
            transaction.rollback()
            return None
        if seen is None or _is_of_another(connection, damaged):
            return TakenOut(None)
        return TakenOut(inventory.move_to_quarantine(files, damaged.path, at))


def _now(files: FileStore, path: str) -> FileSeen | None:
    try:
        return file_seen(files, path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_of_another(connection: sa.Connection, damaged: HeldRevision) -> bool:
    """Tell whether the name has become that of another revision, when the file was gone."""
    return (
        connection.execute(
            sa.select(Instance.id)
            .where(
                Instance.sop_instance_uid == damaged.sop_instance_uid,
                Instance.path == damaged.path,
                Instance.id != damaged.id,
                Instance.missing_at.is_(None),
            )
            .limit(1)
        ).first()
        is not None
    )
