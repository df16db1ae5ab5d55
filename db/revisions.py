"""Which revision of the schema this version needs, and which one a database is at.

Every part of a node asks at its start, so it is told without alembic, which takes longer to import
than a database to answer.
"""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

VERSIONS = Path(__file__).with_name("migrations") / "versions"
# As alembic's own template has them, each on a line.
_REVISION = re.compile(r'^revision(?:: \w+)? = "(\w+)"', re.MULTILINE)
_DOWN = re.compile(r'^down_revision(?:: [\w| ]+)? = (?:"(\w+)"|None)', re.MULTILINE)
_TABLE = "alembic_version"


def head(versions: Path = VERSIONS) -> str:
    """Return the revision that this version of Preread needs: the one that no other follows.

    Raises
    ------
    ValueError
        If there is no such revision, or more than one.
    """
    followed: dict[str, str | None] = {}
    for path in sorted(versions.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        name, down = _REVISION.search(text), _DOWN.search(text)
        if name is None or down is None:
            raise ValueError(f"{path} does not say revision and down_revision")
        followed[name[1]] = down[1]
    last = followed.keys() - set(followed.values())
    if len(last) != 1:
        raise ValueError(f"{versions} has {len(last)} revisions that no other follows")
    return last.pop()


def current(engine: sa.Engine) -> str | None:
    """Return the revision that the database is at; None for an empty one."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(_TABLE):
            return None
        found: str | None = connection.execute(
            sa.text("SELECT version_num FROM alembic_version")
        ).scalar()
        return found
