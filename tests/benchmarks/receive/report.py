"""The figures as Markdown: for the console, for the README."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from figures import Figures, Measure
from goals import OURS, goals
from markdown_tables import number, table

_BASES = ("orthanc", "storescp")


def markdown(taken: Figures, facts: Iterable[tuple[str, str]], titles: Mapping[str, str]) -> str:
    """Return the whole report."""
    per_second = [one for one in taken.measures() if _is_throughput(one)]
    others = [one for one in taken.measures() if not _is_throughput(one)]
    parts = ["# Receiving: what was measured"]
    parts.append("\n".join(f"- {name}: {value}" for name, value in facts))
    if per_second:
        parts.append("Images per second, medians of all rounds; ratios of Preread on SQLite to "
                     "others are medians of the ratios within a round.")  # fmt: skip
        parts.append(_figures_table(taken, per_second, titles, with_ratios=True))
    if others:
        parts.append(_figures_table(taken, others, titles, with_ratios=False))
    parts.append(_goals_table(taken, titles))
    if taken.errors:
        parts.append("Errors:\n\n" + "\n".join(f"- {error}" for error in taken.errors))
    return "\n\n".join(parts) + "\n"


def _is_throughput(measure: Measure) -> bool:
    return measure.unit == "images/s" and not measure.name.startswith("mixed")


def _figures_table(
    taken: Figures, measures: Sequence[Measure], titles: Mapping[str, str], *, with_ratios: bool
) -> str:
    peers = [name for name in titles if any(taken.values(one, name) for one in measures)]
    bases = [base for base in _BASES if with_ratios and base in peers and OURS in peers]
    rows = [
        [
            one.name if with_ratios else f"{one.name}, {one.unit}",
            *(number(taken.median(one, peer)) for peer in peers),
            *(number(taken.ratio(one, OURS, base), "x") for base in bases),
        ]
        for one in measures
    ]
    head = ["", *(titles[peer] for peer in peers), *(f"to {titles[base]}" for base in bases)]
    return table(head, rows)


def _goals_table(taken: Figures, titles: Mapping[str, str]) -> str:
    rows = []
    for goal in goals():
        value = goal.value(taken)
        if value is None:
            continue
        name = goal.measure.name + (f", against {titles[goal.against]}" if goal.against else "")
        if goal.peer != OURS:
            name += f" ({titles[goal.peer]})"
        sign = "at least" if goal.against else "at most"
        verdict = "pass" if goal.is_met(value) else "**miss**"
        unit = goal.unit if goal.unit == "x" else f" {goal.unit}"
        rows.append([name, f"{sign} {goal.bound:g}{unit}", number(value, unit), verdict])
    return table(["goal", "asked", "measured", ""], rows)
