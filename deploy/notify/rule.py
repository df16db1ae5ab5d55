"""Who is to be told of an analysis: decided once, when it ends.

A target is told of what it asked for in ``when``. Of a later version of an analysis it is told
again only if that would tell it anything else: a finding that is newly chosen, one that is chosen
no more (whoever was told of a positive must learn that it does not hold), or one with another
presence. A probability that changes within the conditions is no news.

Analyses on trial (``shadow``) tell nobody, and are passed over when versions are compared. So are
earlier versions that ended without findings; of an analysis that is not done, each version is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import translate
from re import IGNORECASE, compile
from typing import Protocol

import sqlalchemy as sa

from db.notifications import Notified
from db.outcomes import Outcome
from db.told import Asked, asked, earlier_findings, widest

from .settings import NotifyConditions, NotifySettings


class Found(Protocol):
    """What the rule needs of a finding."""

    @property
    def label(self) -> str:
        """Name of the finding."""

    @property
    def presence(self) -> str:
        """Present, Undetermined or Absent."""

    @property
    def probability(self) -> float:
        """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An analysis that ends.

    Attributes
    ----------
    findings : sequence
        At the widest scope of each label.
    earlier : sequence or None
        Those of the version before; None if there was none.
    """

    model_name: str
    state: str
    is_stat: bool
    is_shadow: bool
    findings: Sequence[Found] = ()
    earlier: Sequence[Found] | None = None


def wants(when: NotifyConditions, ended: Ended) -> bool:
    """Tell whether a target with these conditions is to be told of an analysis."""
    if ended.is_shadow or ended.state not in when.states:
        return False
    if when.stat_only and not ended.is_stat:
        return False
    if when.models and not _any_matches(when.models, ended.model_name):
        return False
    if ended.state != "done":
        return True
    return chosen(when, ended.findings) != chosen(when, ended.earlier or ())


def chosen(when: NotifyConditions, findings: Iterable[Found]) -> frozenset[tuple[str, str]]:
    """Return label and presence of the findings that meet the conditions."""
    return frozenset(
        (one.label, str(one.presence))
        for one in findings
        if one.presence in when.presence
        and one.probability >= when.min_probability
        and (not when.labels or _any_matches(when.labels, one.label))
    )


def notified_by(
    engine: sa.Engine, targets: Sequence[NotifySettings]
) -> Callable[[str, Outcome], tuple[Notified, ...]]:
    """Return what says who is to be told of an outcome; reads, and writes nothing."""

    def notified(analysis_id: str, outcome: Outcome) -> tuple[Notified, ...]:
        if not targets:
            return ()
        with engine.connect() as connection:
            of = asked(connection, analysis_id)
            if of is None or of.shadow:
                return ()
            ended = _ended(of, outcome, earlier_findings(connection, of.predecessor_id))
        now = datetime.now(UTC)
        return tuple(
            Notified(target.name, now + timedelta(hours=target.deadline_hours))
            for target in targets
            if wants(target.when, ended)
        )

    return notified


def _ended(of: Asked, outcome: Outcome, earlier: Sequence[Found] | None) -> Ended:
    return Ended(
        model_name=of.model_name,
        state=outcome.state,
        is_stat=of.priority == "stat",
        is_shadow=of.shadow,
        findings=widest(outcome.findings),
        earlier=earlier,
    )


def _any_matches(patterns: Iterable[str], text: str) -> bool:
    # ``[`` stands for itself, as in every other pattern of the settings but conditions of rules.
    return any(
        compile(translate(pattern.replace("[", "[[]")), IGNORECASE).match(text)
        for pattern in patterns
    )
