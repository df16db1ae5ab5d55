"""The facts of stored files, made by the worker once and kept in the database.

Receiving is not touched: the process that acknowledges images never parses more of them than it
did. A worker that has nothing else to do writes facts down in the quiet time that every series
waits for, one worker of a host at a time, and whatever is missing still when an analysis starts
then. A database that is away, or facts that nobody can read, cost time and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
import structlog

from db.files import FileStore
from db.instance_facts import facts_of, keep_facts, latest_instance, without_facts

from .errors import ODD_DATA, NotAnalysableError
from .open_source import index_file
from .reading import SourceImage
from .stored_facts import StoredFacts, facts_from_bytes

_log = structlog.get_logger()

# What is kept of a file that is no readable DICOM file: that it was looked at.
_NOTHING = b""
# Rows of one transaction: a few milliseconds, for which others wait that write to SQLite.
_KEPT_TOGETHER = 50
# Instances, counted from the latest, of which one that another worker did not index is looked for.
_LOOKED_BACK = 20_000
_LOCK = Path("workers", "facts.lock")
# Of the thread, behind those that receive, deliver and answer on the same cores.
_NICE = 10


class FactStore:
    """Facts of stored files.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    files : FileStore
    """

    def __init__(self, engine: sa.Engine, files: FileStore) -> None:
        self._engine = engine
        self._files = files
        self._seen: int | None = None
        self._thread: threading.Thread | None = None
        self._counting = threading.Lock()
        self._at_work = 0

    def with_facts(self, images: Sequence[SourceImage]) -> tuple[SourceImage, ...]:
        """Return images with the facts of their files; those that were not there are kept."""
        try:
            with self._engine.connect() as connection:
                kept = facts_of(connection, [image.instance_id for image in images])
        except sa.exc.SQLAlchemyError as error:
            _log.warning("facts.not_loaded", error=type(error).__name__)
            return tuple(images)
        given = []
        made: dict[int, bytes] = {}
        for image in images:
            content = kept.get(image.instance_id)
            facts = None if content is None else facts_from_bytes(content)
            if facts is None and content != _NOTHING:
                facts = _indexed(image.path)
                made[image.instance_id] = _NOTHING if facts is None else facts.to_bytes()
            given.append(replace(image, facts=facts))
        self._keep(made)
        return tuple(given)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Index nothing in the background for the duration of the block: there is real work."""
        with self._counting:
            self._at_work += 1
        try:
            yield
        finally:
            with self._counting:
                self._at_work -= 1

    def index_new(self, limit: int) -> None:
        """Have a thread do `index_now` if nothing else is done here; return at once."""
        if self._at_work or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(
            target=self._index, args=(limit,), name="facts", daemon=True
        )
        self._thread.start()

    def index_now(self, limit: int) -> int:
        """Make the facts of at most `limit` instances that came since the last call; count them.

        The first call looks at the latest `limit`. What is passed over, because it was committed
        after a later one or long ago, gets its facts when it is analysed.
        When an analysis begins here the rest waits for the next call.
        """
        with self._engine.connect() as connection:
            latest = latest_instance(connection)
            oldest = latest - (limit if self._seen is None else _LOOKED_BACK)
            after = max(0, oldest, self._seen or 0)
            found = without_facts(connection, after, limit)
        count = 0
        for some in _parts(found, _KEPT_TOGETHER):
            made = {}
            for instance_id, path in some:
                if self._at_work:
                    break
                facts = _indexed(self._files.absolute(path))
                made[instance_id] = _NOTHING if facts is None else facts.to_bytes()
                self._seen = instance_id
            self._keep(made)
            count += len(made)
        if count == len(found) < limit:
            self._seen = latest
        return count

    def _index(self, limit: int) -> None:
        """Index as the one worker of this host that does so now, behind all that is urgent."""
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
            with _alone(self._files.root / _LOCK) as alone:
                if alone:
                    self.index_now(limit)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            _log.warning("facts.not_made", error=type(error).__name__)

    def _keep(self, made: Mapping[int, bytes]) -> None:
        if not made:
            return
        try:
            with self._engine.begin() as connection:
                keep_facts(connection, made)
        except sa.exc.SQLAlchemyError as error:
            _log.warning("facts.not_kept", count=len(made), error=type(error).__name__)


def _parts(rows: Sequence[tuple[int, str]], size: int) -> Iterator[Sequence[tuple[int, str]]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    """Tell whether no other process on this host is in this block."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _indexed(path: Path) -> StoredFacts | None:
    try:
        return index_file(path)
    except (NotAnalysableError, *ODD_DATA):  # the reader says why, when it is asked to read it
        return None
