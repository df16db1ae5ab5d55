"""Words of states, as they stand in the tables; those of findings are in `finding_words`."""

from __future__ import annotations

from enum import StrEnum


class SeriesState(StrEnum):
    """Whether images of a series are still expected."""

    OPEN = "open"
    COMPLETE = "complete"


class AnalysisState(StrEnum):
    """Outcome of an analysis; ``pending`` until there is one."""

    PENDING = "pending"
    DONE = "done"
    NOT_ANALYSED = "not_analysed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DeliveryState(StrEnum):
    """How far one result object has come on its way to one destination."""

    PENDING = "pending"
    SENT = "sent"
    COMMITTED = "committed"
    DEAD = "dead"


class Proof(StrEnum):
    """How a destination showed that it holds an object."""

    COMMIT = "commit"
    FIND = "find"


class NotificationState(StrEnum):
    """How far a notification has come."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"


class ReportState(StrEnum):
    """Whether the sender of a storage commitment request has its answer."""

    PENDING = "pending"
    REPORTED = "reported"
    DEAD = "dead"


class AssociationEnd(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    LOST = "lost"
    REJECTED = "rejected"
