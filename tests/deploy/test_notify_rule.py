"""Who is told: conditions, versions, shadow analyses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.notify.rule import Ended, chosen, wants
from deploy.notify.settings import NotifyConditions

PRESENCES = ("Present", "Undetermined", "Absent")


@dataclass(frozen=True)
class Found:
    label: str
    presence: str = "Present"
    probability: float = 0.9


BLEED = Found("any hemorrhage")
ENDED = Ended("hemorrhage", "done", is_stat=False, is_shadow=False, findings=(BLEED,))


def when(**given: Any) -> NotifyConditions:
    return NotifyConditions.model_validate(given)


@pytest.mark.parametrize(
    ("conditions", "changes", "expected"),
    [
        ({}, {}, True),
        ({}, {"findings": ()}, False),
        ({}, {"findings": (replace(BLEED, presence="Absent"),)}, False),
        ({"presence": ["Absent"]}, {"findings": (replace(BLEED, presence="Absent"),)}, True),
        ({"labels": ["ANY *"]}, {}, True),
        ({"labels": ["subdural*", "[a]*"]}, {}, False),
        ({"min_probability": 0.9}, {}, True),
        ({"min_probability": 0.91}, {}, False),
        ({"models": ["hem*"]}, {}, True),
        ({"models": ["pneumo*"]}, {}, False),
        ({"stat_only": True}, {}, False),
        ({"stat_only": True}, {"is_stat": True}, True),
        ({}, {"is_shadow": True}, False),
        ({}, {"state": "failed", "findings": ()}, False),
        ({"states": ["failed"]}, {"state": "failed", "findings": ()}, True),
        ({"states": ["failed"]}, {}, False),
        ({"states": ["not_analysed"], "labels": ["x"]}, {"state": "not_analysed"}, True),
        ({"states": ["done", "failed"]}, {"state": "cancelled"}, False),
    ],
)
def test_conditions(conditions: Any, changes: Any, expected: bool) -> None:
    assert wants(when(**conditions), replace(ENDED, **changes)) is expected


@pytest.mark.parametrize(
    ("earlier", "now", "expected"),
    [
        ((BLEED,), (BLEED,), False),
        ((replace(BLEED, probability=0.7),), (BLEED,), False),
        ((replace(BLEED, presence="Undetermined"),), (BLEED,), True),
        ((BLEED,), (replace(BLEED, presence="Absent"),), True),  # the positive is taken back
        ((BLEED,), (BLEED, Found("subdural")), True),
        ((replace(BLEED, presence="Absent"),), (replace(BLEED, presence="Undetermined"),), False),
        ((), (BLEED,), True),
    ],
)
def test_a_later_version_is_told_only_where_it_says_anything_else(
    earlier: Any, now: Any, expected: bool
) -> None:
    assert wants(when(), replace(ENDED, findings=now, earlier=earlier)) is expected


FOUND = st.lists(
    st.builds(
        Found,
        st.sampled_from(["a", "b", "ab"]),
        st.sampled_from(PRESENCES),
        st.floats(0, 1, allow_nan=False),
    ),
    max_size=4,
).map(tuple)
CONDITIONS = st.builds(
    when,
    labels=st.lists(st.sampled_from(["a", "b*", "*"]), max_size=2),
    presence=st.lists(st.sampled_from(PRESENCES), min_size=1, unique=True),
    min_probability=st.floats(0, 1),
)


@given(CONDITIONS, FOUND, st.none() | FOUND)
def test_nobody_is_told_the_same_twice_or_misses_a_new_positive(
    conditions: NotifyConditions, now: Any, earlier: Any
) -> None:
    is_told = wants(conditions, replace(ENDED, findings=now, earlier=earlier))
    news = chosen(conditions, now) - chosen(conditions, earlier or ())
    if news:
        assert is_told
    if chosen(conditions, now) == chosen(conditions, earlier or ()):
        assert not is_told
    if earlier is None:
        assert is_told is bool(chosen(conditions, now))
    assert not wants(conditions, replace(ENDED, findings=now, earlier=now))
    assert not wants(conditions, replace(ENDED, findings=now, earlier=earlier, is_shadow=True))


@given(CONDITIONS, FOUND)
def test_what_is_chosen_meets_every_condition(conditions: NotifyConditions, found: Any) -> None:
    for label, presence in chosen(conditions, found):
        assert presence in conditions.presence
        of = [one for one in found if (one.label, one.presence) == (label, presence)]
        assert max(one.probability for one in of) >= conditions.min_probability
