"""What was asked of a model, what it found, and the objects that say so."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from ..finding_words import Presence, Scope
from .base import Base, BigId, one_of
from .states import AnalysisState


class Analysis(Base):
    """One model on one set of instances. ``id`` is the digest that makes submitting idempotent."""

    __tablename__ = "analysis"
    __table_args__ = (
        one_of("state", AnalysisState),
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
    last_started_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
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
        one_of("scope", Scope),
        one_of("presence", Presence),
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
