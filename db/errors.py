"""The one error root of this room."""


class DatabaseError(Exception):
    """The database or the file store cannot do what was asked."""


class DatabaseSettingsError(DatabaseError):
    """``db.url`` cannot be what is meant."""


class SchemaVersionError(DatabaseError):
    """The database's schema is not the one that this version of Preread needs."""


class StorageFullError(DatabaseError):
    """No space is left for the file; nothing was kept and nothing may be acknowledged."""


class WriteLockTimeoutError(DatabaseError):
    """The SQLite write lock was not free within the time allowed."""
