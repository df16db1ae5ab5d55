"""A series and an analysis of it as rows, for tests that need no images."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from db.schema import Analysis, Series, Study


def insert_series(
    connection: sa.Connection,
    now: datetime,
    study: str = "1.2",
    series: str = "1.2.3",
    **columns: object,
) -> None:
    """Enter a study with one series; `columns` are further ones of the series."""
    connection.execute(
        sa.insert(Study).values(study_instance_uid=study, received_at=now, last_received_at=now)
    )
    values: dict[str, object] = {
        "series_instance_uid": series,
        "study_instance_uid": study,
        "trace_id": "t",
        "first_received_at": now,
        "last_received_at": now,
    }
    connection.execute(sa.insert(Series).values(values | columns))


def insert_analysis(
    connection: sa.Connection,
    now: datetime,
    name: str = "a",
    study: str = "1.2",
    series: str = "1.2.3",
    **columns: object,
) -> None:
    """Enter an analysis of a series that is there; `columns` are further or other ones of it."""
    values: dict[str, object] = {
        "id": name,
        "study_instance_uid": study,
        "series_instance_uid": series,
        "model_name": "m",
        "model_version": "1",
        "weights_sha256": "0",
        "configuration_digest": "0",
        "instance_digest": "0",
        "version": 1,
        "priority": "routine",
        "trace_id": "t",
        "received_at": now,
        "requested_at": now,
    }
    connection.execute(sa.insert(Analysis).values(values | columns))
