"""The tables: studies, series and instances as received, analyses and their findings, deliveries.

Studies and series are keyed by their UIDs, so that ingest never reads before it writes and SQL
written by people needs no surrogate keys. All timestamps are UTC. The state of a *job* is not kept
here: the job engine owns work, these tables own truth, and the two are joined by ``analysis.id``.

The door imports all tables: `Base.metadata` is whole for whoever has one of them.
"""

from ..finding_words import Presence, Scope
from .analyses import Analysis, AnalysisInstance, Explanation, Finding, Measurement, ResultObject
from .base import Base, UtcDateTime
from .received import (
    Association,
    ContextSet,
    Instance,
    InstanceFacts,
    Resent,
    Series,
    Study,
    StudyCorrection,
)
from .sending import (
    CommitmentAsked,
    CommitmentSought,
    Delivery,
    DestinationHealth,
    Notification,
)
from .states import (
    AnalysisState,
    AssociationEnd,
    DeliveryState,
    NotificationState,
    Proof,
    ReportState,
    SeriesState,
)
from .workers import Worker, WorkerEvent

__all__ = [
    "Analysis",
    "AnalysisInstance",
    "AnalysisState",
    "Association",
    "AssociationEnd",
    "Base",
    "CommitmentAsked",
    "CommitmentSought",
    "ContextSet",
    "Delivery",
    "DeliveryState",
    "DestinationHealth",
    "Explanation",
    "Finding",
    "Instance",
    "InstanceFacts",
    "Measurement",
    "Notification",
    "NotificationState",
    "Presence",
    "Proof",
    "ReportState",
    "Resent",
    "ResultObject",
    "Scope",
    "Series",
    "SeriesState",
    "Study",
    "StudyCorrection",
    "UtcDateTime",
    "Worker",
    "WorkerEvent",
]
