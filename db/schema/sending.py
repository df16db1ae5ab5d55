"""What is sent to whom, what has come of it, and who asked for proof."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, BigId, one_of
from .states import DeliveryState, NotificationState, Proof, ReportState


class Delivery(Base):
    """One result object on its way to one destination."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("result_object_id", "destination"),
        one_of("state", DeliveryState),
        one_of("proof", Proof),
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
        one_of("state", ReportState),
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
        one_of("state", NotificationState),
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
