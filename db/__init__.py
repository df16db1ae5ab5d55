"""Facts: what came, what was found, what was sent.

The schema, the engine with its settings for SQLite and PostgreSQL, the file store, the
group-committed ingest and the SQL views. This room imports nothing else of Preread's.

The door opens what is asked for: a process that decodes, or a command that needs the errors alone,
does not import SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import create_engine
    from .errors import DatabaseError
    from .files import FileStore
    from .settings import DbSettings

__all__ = ["DatabaseError", "DbSettings", "FileStore", "create_engine"]

_BEHIND = {
    "DatabaseError": "errors",
    "DbSettings": "settings",
    "FileStore": "files",
    "create_engine": "engine",
}


def __getattr__(name: str) -> object:
    if name not in _BEHIND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_BEHIND[name]}", __name__), name)
