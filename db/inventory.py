"""The file store against the instance rows: files without a row, and rows without a file.

Both sides may be large and are in use meanwhile, so neither is ever held whole: folders are read a
few hundred names at a time, rows a page at a time, and no transaction outlives its page.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .durable import sync_folder
from .files import FileStore
from .schema import Instance, Series, Study
from .spool import SUFFIX

NAMES_PER_QUERY = 500
ROWS_PER_PAGE = 1000
# How `db.backlog` begins the names of files with refused records.
_REFUSED = "refused-"

# What the file store calls an image: its SOP Instance UID, and for other bytes under a UID already
# taken the beginning of their digest.
_NAME = re.compile(r"([0-9]+(?:\.[0-9]+)*)(\.[0-9a-f]{16})?\.dcm", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamesSeen:
    """Some of the names in one image folder.

    Attributes
    ----------
    n_files : int
        Image files among them.
    without_row : tuple of str
        Paths of the image files that no row names, relative to the data directory.
    foreign : tuple of str
        Paths of what the file store did not put there: other names, folders, links.
    """

    n_files: int
    without_row: tuple[str, ...]
    foreign: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """What a row says of its file.

    Attributes
    ----------
    path : str
        Relative to the data directory.
    missing_at : datetime or None
        When the file was first found missing; None while it is there.
    has_parents : bool
        Whether the rows of its study and series exist.
    """

    id: int
    sop_instance_uid: str
    study_instance_uid: str | None
    path: str
    size_bytes: int
    sha256: str
    missing_at: datetime | None
    has_parents: bool


def image_folders(files: FileStore) -> list[Path]:
    """Return the folders that hold images, in their order."""
    folders = (files.root / "images" / f"{number:02x}" for number in range(256))
    return [folder for folder in folders if folder.is_dir()]


def uids_of(name: str) -> tuple[str, ...]:
    """Return the SOP Instance UIDs that a file may hold, by its name; none if it is no image's.

    There are two for ``1.2.3.1234567890123456.dcm``, whose last part may belong to the UID or be
    the digest of other bytes under ``1.2.3``.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return ()
    uid, digest = found.group(1, 2)
    whole, dot, last = uid.rpartition(".")
    if digest is None and dot and len(last) == 16:
        return (uid, whole)
    return (uid,)


def compare_folder(engine: sa.Engine, files: FileStore, folder: Path) -> Iterator[NamesSeen]:
    """Compare one image folder with the rows, `NAMES_PER_QUERY` names at a time.

    A file that is being received has its name before its row: whether one without a row is such a
    file is for the caller to say, by its age.
    """
    within = folder.relative_to(files.root)
    with os.scandir(folder) as entries:
        while some := list(islice(entries, NAMES_PER_QUERY)):
            yield _compare(engine, within, some)


def _compare(engine: sa.Engine, within: Path, some: list[os.DirEntry[str]]) -> NamesSeen:
    uids: dict[str, tuple[str, ...]] = {}
    foreign = []
    for entry in some:
        path = f"{within}/{entry.name}"
        wanted = uids_of(entry.name) if entry.is_file(follow_symlinks=False) else ()
        if wanted:
            uids[path] = wanted
        else:
            foreign.append(path)
    known = paths_of(engine, {uid for wanted in uids.values() for uid in wanted})
    return NamesSeen(len(uids), tuple(path for path in uids if path not in known), tuple(foreign))


def paths_of(engine: sa.Engine, sop_instance_uids: Collection[str]) -> set[str]:
    """Return the paths that rows of these SOP instances name."""
    if not sop_instance_uids:
        return set()
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(Instance.path).where(Instance.sop_instance_uid.in_(sop_instance_uids))
        )
        return {row.path for row in rows}


def rows(engine: sa.Engine) -> Iterator[list[InstanceRow]]:
    """Yield all instance rows in pages of `ROWS_PER_PAGE`, each read in its own transaction."""
    last = 0
    while True:
        with engine.connect() as connection:
            page = [InstanceRow(*row) for row in connection.execute(_page(last))]
        if not page:
            return
        yield page
        last = page[-1].id


def _page(after: int) -> sa.Select[Any]:
    orphaned = sa.and_(
        Instance.study_instance_uid.is_not(None),
        sa.or_(Study.study_instance_uid.is_(None), Series.series_instance_uid.is_(None)),
    )
    return (
        sa.select(
            Instance.id,
            Instance.sop_instance_uid,
            Instance.study_instance_uid,
            Instance.path,
            Instance.size_bytes,
            Instance.sha256,
            Instance.missing_at,
            sa.not_(orphaned),
        )
        .outerjoin(Study, Study.study_instance_uid == Instance.study_instance_uid)
        .outerjoin(Series, Series.series_instance_uid == Instance.series_instance_uid)
        .where(Instance.id > after)
        .order_by(Instance.id)
        .limit(ROWS_PER_PAGE)
    )


def count_rows(engine: sa.Engine) -> int:
    """Return how many instance rows there are, for a bar that shows progress."""
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(Instance)).scalar_one()


def mark_missing(engine: sa.Engine, ids: Collection[int], at: datetime | None) -> None:
    """Say of at most a page of rows since when their file is missing; None: it is there again."""
    if ids:
        with engine.begin() as connection:
            connection.execute(
                sa.update(Instance).where(Instance.id.in_(ids)).values(missing_at=at)
            )


def move_to_quarantine(files: FileStore, path: str, at: datetime) -> str:
    """Move an image file that is no instance's into quarantine; return its new path.

    Raises
    ------
    OSError
        If it cannot be moved.
    """
    final = files.quarantine_path(f"{at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}-{Path(path).stem}")
    old = files.absolute(path)
    old.rename(final)
    sync_folder(final.parent)
    sync_folder(old.parent)
    return str(final.relative_to(files.root))


def count_backlog(files: FileStore) -> int:
    """Count the records that wait for the database, of all processes; see `db.backlog`."""
    return sum(_count_lines(path) for path in _spooled(files) if not path.name.startswith(_REFUSED))


def count_refused(files: FileStore) -> int:
    """Count the records that waited for the database and were refused by it."""
    return sum(_count_lines(path) for path in _spooled(files) if path.name.startswith(_REFUSED))


def count_quarantine(files: FileStore) -> int:
    """Count the files in quarantine."""
    with os.scandir(files.root / "quarantine") as entries:
        return sum(1 for _ in entries)


def _spooled(files: FileStore) -> Iterator[Path]:
    return (files.root / "unindexed").glob(f"*{SUFFIX}")


def _count_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except FileNotFoundError:  # its last record has just got its row
        return 0
