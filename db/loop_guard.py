"""What keeps results from becoming input: which objects are ours, how often a study was read."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from .schema import Analysis, Instance, ResultObject, UtcDateTime

_OWN = sa.select(Instance.sop_instance_uid).where(
    Instance.series_instance_uid == sa.bindparam("of_series"),
    sa.or_(
        sa.exists().where(ResultObject.sop_instance_uid == Instance.sop_instance_uid),
        sa.exists().where(ResultObject.series_instance_uid == sa.bindparam("of_series")),
    ),
)
_MODELS = sa.select(Analysis.model_name, Analysis.model_version, Analysis.weights_sha256).distinct()
_REQUESTED = sa.select(sa.func.count()).where(
    Analysis.study_instance_uid == sa.bindparam("of_study"),
    Analysis.requested_at >= sa.bindparam("since", type_=UtcDateTime()),
)


class ModelKey(NamedTuple):
    """What tells one model from another."""

    name: str
    version: str
    weights_sha256: str


def own_instances(connection: sa.Connection, series_instance_uid: str) -> frozenset[str]:
    """Return those SOP Instance UIDs of a received series that are results of our own.

    All of them, if the series is one that we made.
    """
    return frozenset(connection.execute(_OWN, {"of_series": series_instance_uid}).scalars())


def models_asked(connection: sa.Connection) -> tuple[ModelKey, ...]:
    """Return every model that ever was to analyse something; looks at all analyses."""
    return tuple(ModelKey(*row) for row in connection.execute(_MODELS))


def is_requested(connection: sa.Connection, analysis_id: str) -> bool:
    """Tell whether the analysis was asked for before."""
    found = sa.select(sa.exists().where(Analysis.id == analysis_id))
    return bool(connection.execute(found).scalar())


def count_requested(connection: sa.Connection, study_instance_uid: str, since: datetime) -> int:
    """Return how many analyses of a study were asked for since then."""
    asked = connection.execute(_REQUESTED, {"of_study": study_instance_uid, "since": since})
    return int(asked.scalar_one())
