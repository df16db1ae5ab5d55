"""The tables: studies, series and instances as received, analyses and their findings, deliveries.

Studies and series are keyed by their UIDs, so that ingest never reads before it writes and SQL
written by people needs no surrogate keys. All timestamps are UTC. The state of a *job* is not kept
here: the job engine owns work, these tables own truth, and the two are joined by ``analysis.id``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from .finding_words import Presence as Presence
from .finding_words import Scope as Scope

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# An integer that SQLite can use as its rowid and PostgreSQL keeps at 64 bits.
BigId = BigInteger().with_variant(Integer, "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """A timestamp in UTC: aware in Python, ``timestamptz`` in PostgreSQL, ISO text in SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive values; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a timestamp without a time zone cannot be stored; use UTC")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware value in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Declarative base; the naming convention lets alembic alter constraints in SQLite."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {datetime: UtcDateTime()}


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


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


class ContextSet(Base):
    """Presentation contexts of associations, each different list once: peers repeat themselves.

    A list of 128 contexts takes some 10 KB; a sender that opens an association for each image would
    otherwise fill the database with it.
    """

    __tablename__ = "context_set"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    contexts: Mapped[str] = mapped_column(Text)


class Association(Base):
    """Ledger: one row per association that a peer asked the SCP for."""

    __tablename__ = "association"
    __table_args__ = (
        _one_of("ended_by", AssociationEnd),
        Index(
            "ix_association_open",
            "acceptor",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_association_opened_at", "opened_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    acceptor: Mapped[str] = mapped_column(String(128))
    calling_ae: Mapped[str] = mapped_column(String(16))
    called_ae: Mapped[str] = mapped_column(String(16))
    peer_host: Mapped[str] = mapped_column(String(64))
    peer_port: Mapped[int] = mapped_column(Integer)
    context_digest: Mapped[str | None] = mapped_column(ForeignKey("context_set.digest"))
    opened_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None] = mapped_column(String(16))
    reject_reason: Mapped[str | None] = mapped_column(Text)
    n_received: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    n_equal: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    n_refused: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    refusals: Mapped[str | None] = mapped_column(Text)
    n_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class Study(Base):
    """A study, as the first of its instances described it."""

    __tablename__ = "study"
    __table_args__ = (
        Index(
            "ix_study_positive_first",
            text("(CASE WHEN n_positive > 0 THEN 1 ELSE 0 END) DESC"),
            text("received_at DESC"),
        ),
        Index("ix_study_received_at", text("received_at DESC")),
        Index("ix_study_patient_id_received_at", "patient_id", text("received_at DESC")),
        Index(
            "ix_study_patient_name",
            "patient_name",
            postgresql_ops={"patient_name": "text_pattern_ops"},
        ),
        Index("ix_study_study_date", text("study_date DESC")),
        Index("ix_study_accession_number", "accession_number"),
    )

    study_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    patient_id: Mapped[str | None] = mapped_column(String(256))
    patient_name: Mapped[str | None] = mapped_column(Text)
    patient_birth_date: Mapped[str | None] = mapped_column(String(8))
    patient_sex: Mapped[str | None] = mapped_column(String(16))
    accession_number: Mapped[str | None] = mapped_column(String(64))
    study_date: Mapped[str | None] = mapped_column(String(8))
    study_description: Mapped[str | None] = mapped_column(Text)
    received_at: Mapped[datetime]
    last_received_at: Mapped[datetime]
    n_positive: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    max_probability: Mapped[float | None] = mapped_column(Float)
    has_conflict: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class Series(Base):
    """A series: open while images may still come, then complete and routed."""

    __tablename__ = "series"
    __table_args__ = (
        _one_of("state", SeriesState),
        Index("ix_series_study_instance_uid", "study_instance_uid"),
        Index(
            "ix_series_open",
            "last_received_at",
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
    )

    series_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("study.study_instance_uid"))
    patient_id: Mapped[str | None] = mapped_column(String(256))
    modality: Mapped[str | None] = mapped_column(String(16))
    series_number: Mapped[int | None] = mapped_column(BigInteger)
    series_description: Mapped[str | None] = mapped_column(Text)
    body_part: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default=SeriesState.OPEN, server_default="open")
    first_received_at: Mapped[datetime]
    last_received_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    instance_digest: Mapped[str | None] = mapped_column(String(64))
    routing: Mapped[str | None] = mapped_column(Text)
    trace_id: Mapped[str] = mapped_column(String(32))


class Instance(Base):
    """One stored SOP instance. ``revision`` counts different bytes under one SOP Instance UID.

    Objects that belong to no patient (PS3.3 Section 7.1.2), and private ones that name no study,
    have neither study nor series.
    """

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "revision"),
        Index("ix_instance_study_instance_uid", "study_instance_uid"),
        Index(
            "ix_instance_series_instance_uid_association_id",
            "series_instance_uid",
            "association_id",
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    revision: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    # As received: they may contradict what the series, or the study, was first said to be.
    series_instance_uid: Mapped[str | None] = mapped_column(
        ForeignKey("series.series_instance_uid")
    )
    study_instance_uid: Mapped[str | None] = mapped_column(ForeignKey("study.study_instance_uid"))
    patient_id: Mapped[str | None] = mapped_column(String(256))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    instance_number: Mapped[int | None] = mapped_column(BigInteger)
    path: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    received_at: Mapped[datetime]
    association_id: Mapped[str] = mapped_column(String(32))
    # When the file was found to be gone; the sender may send it again.
    missing_at: Mapped[datetime | None]


class InstanceFacts(Base):
    """What readers need of a stored file, in a form of theirs; made again where it is missing."""

    __tablename__ = "instance_facts"

    instance_id: Mapped[int] = mapped_column(
        BigId, ForeignKey("instance.id"), primary_key=True, autoincrement=False
    )
    facts: Mapped[bytes] = mapped_column(LargeBinary)


class Analysis(Base):
    """One model on one set of instances. ``id`` is the digest that makes submitting idempotent."""

    __tablename__ = "analysis"
    __table_args__ = (
        _one_of("state", AnalysisState),
        Index("ix_analysis_study_instance_uid", "study_instance_uid"),
        Index("ix_analysis_predecessor_id", "predecessor_id"),
        Index("ix_analysis_series_instance_uid_model_name", "series_instance_uid", "model_name"),
        Index(
            "ix_analysis_pending",
            "requested_at",
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("study.study_instance_uid"))
    series_instance_uid: Mapped[str] = mapped_column(ForeignKey("series.series_instance_uid"))
    model_name: Mapped[str] = mapped_column(String(128))
    model_version: Mapped[str] = mapped_column(String(64))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    configuration_digest: Mapped[str] = mapped_column(String(64))
    instance_digest: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    predecessor_id: Mapped[str | None] = mapped_column(ForeignKey("analysis.id"))
    priority: Mapped[str] = mapped_column(String(16))
    shadow: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    state: Mapped[str] = mapped_column(
        String(16), default=AnalysisState.PENDING, server_default="pending"
    )
    reason_code: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None] = mapped_column(Text)
    facts: Mapped[str | None] = mapped_column(Text)
    trace_id: Mapped[str] = mapped_column(String(32))
    worker: Mapped[str | None] = mapped_column(String(128))
    device: Mapped[str | None] = mapped_column(String(64))
    received_at: Mapped[datetime]
    requested_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class AnalysisInstance(Base):
    """The instances that an analysis was given."""

    __tablename__ = "analysis_instance"
    __table_args__ = (Index("ix_analysis_instance_instance_id", "instance_id"),)

    analysis_id: Mapped[str] = mapped_column(ForeignKey("analysis.id"), primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)


class Finding(Base):
    """One coded label with its probability, at one scope."""

    __tablename__ = "finding"
    __table_args__ = (
        _one_of("scope", Scope),
        _one_of("presence", Presence),
        CheckConstraint("probability >= 0 AND probability <= 1", name="probability"),
        Index("ix_finding_analysis_id", "analysis_id"),
        Index("ix_finding_study_instance_uid", "study_instance_uid"),
        Index("ix_finding_label_probability", "label", text("probability DESC")),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analysis.id"))
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("study.study_instance_uid"))
    label: Mapped[str] = mapped_column(String(64))
    code_value: Mapped[str] = mapped_column(String(64))
    code_scheme: Mapped[str] = mapped_column(String(16))
    code_meaning: Mapped[str] = mapped_column(String(64))
    scope: Mapped[str] = mapped_column(String(16))
    sop_instance_uid: Mapped[str | None] = mapped_column(String(64))
    probability: Mapped[float] = mapped_column(Float)
    threshold_low: Mapped[float] = mapped_column(Float)
    threshold_high: Mapped[float] = mapped_column(Float)
    presence: Mapped[str] = mapped_column(String(16))
    key_sop_instance_uid: Mapped[str | None] = mapped_column(String(64))
    # What computed it; of a series or study what computed most of its images.
    engine: Mapped[str | None] = mapped_column(String(32))
    engine_version: Mapped[str | None] = mapped_column(String(32))
    engine_device: Mapped[str | None] = mapped_column(String(64))
    engine_precision: Mapped[str | None] = mapped_column(String(16))
    engine_batch: Mapped[int | None] = mapped_column(Integer)


class Measurement(Base):
    """A quantity of one label that was measured in the images of an analysis."""

    __tablename__ = "measurement"
    __table_args__ = (
        Index("ix_measurement_analysis_id", "analysis_id"),
        Index("ix_measurement_label_value", "label", "value"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analysis.id"))
    label: Mapped[str] = mapped_column(String(64))
    code_value: Mapped[str] = mapped_column(String(64))
    code_scheme: Mapped[str] = mapped_column(String(16))
    code_meaning: Mapped[str] = mapped_column(String(64))
    value: Mapped[float] = mapped_column(Float)
    unit: Mapped[str] = mapped_column(String(16))


class Explanation(Base):
    """Where a model looked for one label in one frame: a small map, quantised and compressed.

    ``placement`` is JSON: where the map lies over the image. It goes with its analysis.
    """

    __tablename__ = "explanation"
    __table_args__ = (
        UniqueConstraint("analysis_id", "label", "sop_instance_uid", "frame", "method"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    # From 0.
    frame: Mapped[int] = mapped_column(Integer)
    method: Mapped[str] = mapped_column(String(32))
    # JSON: {name: value}
    parameters: Mapped[str] = mapped_column(Text)
    map_rows: Mapped[int] = mapped_column(Integer)
    map_columns: Mapped[int] = mapped_column(Integer)
    placement: Mapped[str] = mapped_column(Text)
    cell_height_mm: Mapped[float | None] = mapped_column(Float)
    cell_width_mm: Mapped[float | None] = mapped_column(Float)
    size_bytes: Mapped[int] = mapped_column(Integer)
    map: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class ResultObject(Base):
    """A DICOM object that an analysis produced; its bytes are kept and re-sent, never rebuilt.

    ``fallback_of_id`` names the report of which this one is the same in another SOP class, for a
    destination that takes no better; ``predecessor_id`` what it replaces after a correction of the
    study; ``fault`` why it must not be sent.
    """

    __tablename__ = "result_object"
    __table_args__ = (
        Index("ix_result_object_analysis_id", "analysis_id"),
        Index("ix_result_object_series_instance_uid", "series_instance_uid"),
        Index("ix_result_object_predecessor_id", "predecessor_id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analysis.id"))
    kind: Mapped[str] = mapped_column(String(16))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    fallback_of_id: Mapped[int | None] = mapped_column(ForeignKey("result_object.id"))
    predecessor_id: Mapped[int | None] = mapped_column(ForeignKey("result_object.id"))
    fault: Mapped[str | None] = mapped_column(Text)


class Delivery(Base):
    """One result object on its way to one destination."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("result_object_id", "destination"),
        _one_of("state", DeliveryState),
        _one_of("proof", Proof),
        Index(
            "ix_delivery_due",
            "destination",
            "next_attempt_at",
            sqlite_where=text("state IN ('pending', 'sent')"),
            postgresql_where=text("state IN ('pending', 'sent')"),
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    result_object_id: Mapped[int] = mapped_column(ForeignKey("result_object.id"))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(
        String(16), default=DeliveryState.PENDING, server_default="pending"
    )
    n_attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    next_attempt_at: Mapped[datetime]
    leased_until: Mapped[datetime | None]
    last_status: Mapped[str | None] = mapped_column(String(16))
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    deadline_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    committed_at: Mapped[datetime | None]
    proof: Mapped[str | None] = mapped_column(String(16))


class DestinationHealth(Base):
    """Whether a destination is being tried: its circuit breaker, as people see it."""

    __tablename__ = "destination_health"

    destination: Mapped[str] = mapped_column(String(64), primary_key=True)
    n_failures: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    # Nothing but one probe is tried before this time; NULL while the destination works.
    open_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    last_success_at: Mapped[datetime | None]


class CommitmentSought(Base):
    """A storage commitment that this node asked of a destination (PS3.4 Annex J, as SCU)."""

    __tablename__ = "commitment_sought"
    __table_args__ = (Index("ix_commitment_sought_delivery_id", "delivery_id"),)

    transaction_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("delivery.id"))
    requested_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    # Failure Reason (0008,1197), such as 0x0112; NULL if the object was committed.
    failure_reason: Mapped[str | None] = mapped_column(String(16))


class CommitmentAsked(Base):
    """A storage commitment that a sender asked of this node (PS3.4 Annex J, as SCP)."""

    __tablename__ = "commitment_asked"
    __table_args__ = (
        _one_of("state", ReportState),
        UniqueConstraint("calling_ae", "transaction_uid"),
        Index(
            "ix_commitment_asked_due",
            "next_attempt_at",
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    transaction_uid: Mapped[str] = mapped_column(String(64))
    calling_ae: Mapped[str] = mapped_column(String(16))
    called_ae: Mapped[str] = mapped_column(String(16))
    association_id: Mapped[str] = mapped_column(String(32))
    # JSON: [[SOP Class UID, SOP Instance UID], ...]
    instances: Mapped[str] = mapped_column(Text)
    # JSON: {SOP Instance UID: Failure Reason}; NULL before the files were looked at.
    failures: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(
        String(16), default=ReportState.PENDING, server_default="pending"
    )
    n_attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    next_attempt_at: Mapped[datetime]
    leased_until: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    received_at: Mapped[datetime]
    reported_at: Mapped[datetime | None]


class Notification(Base):
    """A message about an analysis to somebody who asked to be told."""

    __tablename__ = "notification"
    __table_args__ = (
        UniqueConstraint("analysis_id", "target"),
        _one_of("state", NotificationState),
        Index(
            "ix_notification_due",
            "target",
            "next_attempt_at",
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analysis.id"))
    target: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(
        String(16), default=NotificationState.PENDING, server_default="pending"
    )
    n_attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    next_attempt_at: Mapped[datetime]
    leased_until: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    # HTTP status or HL7 acknowledgment code, such as 503 or AE.
    last_status: Mapped[str | None] = mapped_column(String(16))
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]


class StudyCorrection(Base):
    """What a person corrected about a study after its images had come; the latest row holds."""

    __tablename__ = "study_correction"
    __table_args__ = (Index("ix_study_correction_study_instance_uid", "study_instance_uid"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("study.study_instance_uid"))
    # JSON: {DICOM keyword: corrected value}
    attributes: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    corrected_at: Mapped[datetime]


class Worker(Base):
    """Heartbeat of a process that analyses; ``trouble`` is why it does not do so as it should."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    host: Mapped[str] = mapped_column(String(128))
    pid: Mapped[int] = mapped_column(Integer)
    device: Mapped[str] = mapped_column(String(64))
    models: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    n_sweeps: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    # What the settings ask for, where that is not what it runs on.
    wanted_device: Mapped[str | None] = mapped_column(String(64))
    trouble: Mapped[str | None] = mapped_column(Text)


class WorkerEvent(Base):
    """What a worker or one of its engines lived through; old ones are deleted.

    No foreign key: that an event is written must not depend on what it tells of.
    """

    __tablename__ = "worker_event"
    __table_args__ = (
        Index("ix_worker_event_at", "at"),
        Index("ix_worker_event_analysis_id", "analysis_id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    worker: Mapped[str] = mapped_column(String(128))
    step: Mapped[str] = mapped_column(String(32))
    engine: Mapped[str | None] = mapped_column(String(32))
    device: Mapped[str | None] = mapped_column(String(64))
    n_rows: Mapped[int | None] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(Text)
    analysis_id: Mapped[str | None] = mapped_column(String(64))
