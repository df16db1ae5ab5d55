"""The one error root of this room."""


class DatabaseError(Exception):
    """The database or the file store cannot do what was asked."""


class DatabaseSettingsError(DatabaseError):
    """``db.url`` cannot be what is meant."""


class SchemaVersionError(DatabaseError):
    """The database's schema is not the one that this version of Preread needs."""


class StorageFullError(DatabaseError):
    """No space is left for the file; nothing was kept and nothing may be acknowledged."""


class DatabaseAwayError(DatabaseError):
    """The database did not take what it was given, for no fault of what was given."""


class BacklogFullError(StorageFullError):
    """As many instances wait for their rows as may; nothing may be acknowledged."""
