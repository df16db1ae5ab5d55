"""Facts: what came, what was found, what was sent.

The schema, the engine with its settings for SQLite and PostgreSQL, the file store, the
group-committed ingest and the SQL views. This room imports nothing else of Preread's.
"""

from .engine import create_engine
from .errors import DatabaseError
from .files import FileStore
from .settings import DbSettings

__all__ = ["DatabaseError", "DbSettings", "FileStore", "create_engine"]
