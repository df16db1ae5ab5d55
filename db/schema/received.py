"""What came, from whom, and what was corrected about it since."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
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

from .base import Base, BigId, one_of
from .states import AssociationEnd, SeriesState


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
        one_of("ended_by", AssociationEnd),
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
        one_of("state", SeriesState),
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


class Resent(Base):
    """An association that brought images of a series anew, with the bytes that were there.

    Images keep the association that brought them first.
    """

    __tablename__ = "resent"

    series_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("series.series_instance_uid"), primary_key=True
    )
    association_id: Mapped[str] = mapped_column(String(32), primary_key=True)


class InstanceFacts(Base):
    """What readers need of a stored file, in a form of theirs; made again where it is missing."""

    __tablename__ = "instance_facts"

    instance_id: Mapped[int] = mapped_column(
        BigId, ForeignKey("instance.id"), primary_key=True, autoincrement=False
    )
    facts: Mapped[bytes] = mapped_column(LargeBinary)


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
