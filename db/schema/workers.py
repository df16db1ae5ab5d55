"""The processes that analyse."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, BigId


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
