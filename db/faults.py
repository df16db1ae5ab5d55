"""Whose fault it is when a statement fails: the row's, another transaction's or the database's.

Only the database's own fault may send rows to the backlog. A row that no database would take must
not look like a database that is away, or one odd value of one sender would hold up everybody.
"""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa


class Fault(StrEnum):
    """Who is to blame, and so what helps."""

    ROW = "row"  # refuse this row
    CONTENTION = "contention"  # roll back and try again
    DATABASE = "database"  # wait


# Classes of SQLSTATE (PostgreSQL, appendix A). 22: data, 23: integrity, 54: too large, such as a
# value that no index takes; 40: rolled back for the sake of another transaction.
_ROW_CLASSES = ("22", "23", "54")
_CONTENTION_CLASS = "40"
# As PEP 249 names them, so that no driver need be imported. ProgrammingError without an SQLSTATE is
# the driver's: a value of a type that it cannot send.
_ROW_NAMES = frozenset({"DataError", "IntegrityError", "ProgrammingError"})


def fault_of(error: Exception) -> Fault:
    """Return whose fault an error of a PEP 249 driver is; errors of Python itself are the row's."""
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate is not None:
        if sqlstate.startswith(_ROW_CLASSES):
            return Fault.ROW
        return Fault.CONTENTION if sqlstate.startswith(_CONTENTION_CLASS) else Fault.DATABASE
    # A lone surrogate, a number of more than 64 bits: refused before they reach the database.
    if isinstance(error, ValueError | OverflowError | TypeError):
        return Fault.ROW
    names = {kind.__name__ for kind in type(error).__mro__}
    return Fault.ROW if names & _ROW_NAMES else Fault.DATABASE


def is_away(error: BaseException) -> bool:
    """Tell whether a statement failed because the database is away, full or busy: waiting helps.

    Parameters
    ----------
    error : BaseException
        As SQLAlchemy raises it. What the driver raises as `InterfaceError` is a misuse of it,
        unless the connection was lost.
    """
    if isinstance(error, sa.exc.TimeoutError):  # every connection waits for it already
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    # PostgreSQL calls some faults of a row operational, such as one that is too large.
    is_row = isinstance(error.orig, Exception) and fault_of(error.orig) is Fault.ROW
    return isinstance(error, sa.exc.OperationalError) and not is_row
