"""The facts of stored files, made by the worker once and kept in the database.

Receiving is not touched: the process that acknowledges images never parses more of them than it
did. A worker writes facts down in the quiet time that every series waits for, a few at a time, and
whatever is missing still when an analysis starts then. A database that is away, or facts that
nobody can read, cost time and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def index_new(self, limit: int) -> int:
        """Make the facts of at most `limit` instances that came since the last call; count them.

        The first call looks at the latest `limit`. What is passed over, because it was committed
        after a later one, gets its facts when it is analysed.
        """
        with self._engine.connect() as connection:
            latest = latest_instance(connection)
            after = max(0, latest - limit) if self._seen is None else self._seen
            found = without_facts(connection, after, limit)
        self._seen = found[-1][0] if len(found) == limit else latest
        made = {}
        for instance_id, path in found:
            facts = _indexed(self._files.absolute(path))
            made[instance_id] = _NOTHING if facts is None else facts.to_bytes()
        self._keep(made)
        return len(made)

    def _keep(self, made: Mapping[int, bytes]) -> None:
        if not made:
            return
        try:
            with self._engine.begin() as connection:
                keep_facts(connection, made)
        except sa.exc.SQLAlchemyError as error:
            _log.warning("facts.not_kept", count=len(made), error=type(error).__name__)


def _indexed(path: Path) -> StoredFacts | None:
    try:
        return index_file(path)
    except (NotAnalysableError, *ODD_DATA):  # the reader says why, when it is asked to read it
        return None
