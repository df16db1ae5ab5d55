"""Questions that people ask of the views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from .schema import Scope, UtcDateTime
from .views import VIEWS

_FLAGS = frozenset({"has_conflict", "is_current", "shadow"})


def _type(column: str) -> TypeEngine[Any]:
    if column == "at" or column.endswith(("_at", "_since")):
        return UtcDateTime()
    return sa.Boolean() if column in _FLAGS else sa.types.NullType()


def view(name: str) -> sa.TableClause:
    """Return a view as a selectable with typed columns."""
    return sa.table(name, *(sa.column(column, _type(column)) for column in VIEWS[name]))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results are meant; None asks for any.

    Attributes
    ----------
    since : datetime or None
        Studies of which something was received at or after it.
    min_probability : float or None
        Findings with at least this probability, 0 to 1.
    state : str or None
        State of the analysis, such as ``done`` or ``not_analysed``.
    """

    study: str | None = None
    patient: str | None = None
    model: str | None = None
    finding: str | None = None
    since: datetime | None = None
    min_probability: float | None = None
    state: str | None = None


def findings(
    connection: sa.Connection, wanted: Filter, *, every_scope: bool = False, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return findings, the latest first, as dictionaries keyed like ``v_findings``.

    Parameters
    ----------
    every_scope : bool
        Include what is said of single images where the series is spoken of too.
    """
    found, times = view("v_findings"), view("v_turnaround")
    query = sa.select(found).join(times, times.c.analysis_id == found.c.analysis_id)
    for condition in _conditions(found, times, wanted):
        query = query.where(condition)
    if not every_scope:
        wider = view("v_findings").alias("wider")
        query = query.where(
            sa.or_(
                found.c.scope != Scope.IMAGE,
                ~sa.exists().where(
                    wider.c.analysis_id == found.c.analysis_id,
                    wider.c.label == found.c.label,
                    wider.c.scope != Scope.IMAGE,
                ),
            )
        )
    query = query.order_by(times.c.requested_at.desc(), found.c.finding_id).limit(limit)
    return _rows(connection, query)


def analyses(
    connection: sa.Connection, wanted: Filter, *, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return analyses, the latest first: the columns of ``v_turnaround`` and ``patient_id``."""
    times, studies = view("v_turnaround"), view("v_studies")
    query = sa.select(times, studies.c.patient_id).join(
        studies, studies.c.study_instance_uid == times.c.study_instance_uid
    )
    if wanted.patient is not None:
        query = query.where(studies.c.patient_id == wanted.patient)
    for column, value in (
        (times.c.study_instance_uid, wanted.study),
        (times.c.model_name, wanted.model),
        (times.c.state, wanted.state),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(times.c.received_at >= wanted.since)
    return _rows(connection, query.order_by(times.c.requested_at.desc()).limit(limit))


def in_progress(connection: sa.Connection, wanted: Filter) -> int:
    """Count the studies meant of which images still come or analyses are pending."""
    studies = view("v_studies")
    query = (
        sa.select(sa.func.count())
        .select_from(studies)
        .where(studies.c.state.in_(["receiving", "in progress"]))
    )
    for condition in _study_conditions(studies, wanted):
        query = query.where(condition)
    return int(connection.execute(query).scalar_one())


def is_known(connection: sa.Connection, wanted: Filter) -> bool:
    """Tell whether anything of the studies meant has been received."""
    studies = view("v_studies")
    query = sa.select(studies.c.study_instance_uid).limit(1)
    for condition in _study_conditions(studies, wanted):
        query = query.where(condition)
    return connection.execute(query).first() is not None


def associations(
    connection: sa.Connection,
    *,
    since: datetime | None = None,
    calling_ae: str | None = None,
    is_open: bool = False,
    is_refused: bool = False,
    limit: int = 1000,
) -> list[dict[str, Any]]:
    """Return rows of ``v_associations``, the latest first.

    Parameters
    ----------
    since : datetime or None
        Those that were opened at or after it.
    calling_ae : str or None
        AE title of the sender.
    is_open : bool
        Only those that are open now.
    is_refused : bool
        Only those that were rejected, or of which an instance was refused.
    """
    source = view("v_associations")
    query = sa.select(source).order_by(source.c.opened_at.desc()).limit(limit)
    if since is not None:
        query = query.where(source.c.opened_at >= since)
    if calling_ae is not None:
        query = query.where(source.c.calling_ae == calling_ae)
    if is_open:
        query = query.where(source.c.ended_at.is_(None))
    if is_refused:
        query = query.where(sa.or_(source.c.state == "rejected", source.c.n_refused > 0))
    return _rows(connection, query)


def rows_of(
    connection: sa.Connection,
    name: str,
    *,
    order_by: str,
    limit: int = 1000,
    equals: Mapping[str, object] | None = None,
) -> list[dict[str, Any]]:
    """Return rows of a view, the largest `order_by` first, where columns equal the values."""
    source = view(name)
    query = sa.select(source).order_by(source.c[order_by].desc()).limit(limit)
    for column, value in (equals or {}).items():
        query = query.where(source.c[column] == value)
    return _rows(connection, query)


def _conditions(
    found: sa.TableClause, times: sa.TableClause, wanted: Filter
) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in (
            (found.c.study_instance_uid, wanted.study),
            (found.c.patient_id, wanted.patient),
            (found.c.model_name, wanted.model),
            (found.c.label, wanted.finding),
            (times.c.state, wanted.state),
        )
        if value is not None
    ]
    if wanted.since is not None:
        conditions.append(found.c.received_at >= wanted.since)
    if wanted.min_probability is not None:
        conditions.append(found.c.probability >= wanted.min_probability)
    return conditions


def _study_conditions(studies: sa.TableClause, wanted: Filter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.study is not None:
        conditions.append(studies.c.study_instance_uid == wanted.study)
    if wanted.patient is not None:
        conditions.append(studies.c.patient_id == wanted.patient)
    if wanted.since is not None:
        conditions.append(studies.c.last_received_at >= wanted.since)
    return conditions


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    rows: Sequence[sa.RowMapping] = connection.execute(query).mappings().all()
    return [dict(row) for row in rows]
