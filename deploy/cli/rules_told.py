"""What ``preread rules test`` says: one block for each series, equal answers of images joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from inference.number_words import number_of
from scp.facts import Examined
from scp.rules import Route, merge

_PARKED = "  -> parked: kept, read by no model"
_NO_SERIES = "  -> read by no model: without a Series Instance UID it belongs to no series"


def blocks(examined: Iterable[Examined]) -> Iterator[str]:
    """Yield what is said of each series, in the order in which their first images came.

    Parameters
    ----------
    examined : iterable of Examined
    """
    series: dict[str, list[Examined]] = {}
    for number, one in enumerate(examined):
        # Each that is in no series stands alone.
        series.setdefault(one.series_instance_uid or f"-{number}", []).append(one)
    for images in series.values():
        yield "\n".join(_block(images))


def _block(images: Sequence[Examined]) -> Iterator[str]:
    uid = images[0].series_instance_uid
    yield f"series {uid}: {number_of(len(images), 'image')}" if uid else "no Series Instance UID"
    if uid:
        routes = merge(one.decision for one in images).routes
        yield from (_said(route) for route in routes)
        if not routes:
            yield _PARKED
    else:
        yield _NO_SERIES
    groups: dict[tuple[str, ...], list[Examined]] = {}
    for one in images:
        groups.setdefault(_reasons(one), []).append(one)
    for reasons, alike in groups.items():
        others = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        yield f"  {number_of(len(alike), 'image')}: {alike[0].path}{others}"
        yield from (f"     {reason}" for reason in reasons)


def _said(route: Route) -> str:
    return (
        f"  -> {route.model} ({route.priority}{', shadow' if route.shadow else ''}),"
        f" rule {route.rule}"
    )


def _reasons(one: Examined) -> tuple[str, ...]:
    damaged = (f"{keyword}: damaged, taken as absent" for keyword in one.damaged)
    return (*one.decision.reasons, *damaged)
