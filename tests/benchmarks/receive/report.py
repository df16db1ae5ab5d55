"""The figures as Markdown: for the console, for the README."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from figures import Figures, Measure
from goals import OURS, goals

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
            *(_number(taken.median(one, peer)) for peer in peers),
            *(_number(taken.ratio(one, OURS, base), "x") for base in bases),
        ]
        for one in measures
    ]
    head = ["", *(titles[peer] for peer in peers), *(f"to {titles[base]}" for base in bases)]
    return _table(head, rows)


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
        rows.append([name, f"{sign} {goal.bound:g}{unit}", _number(value, unit), verdict])
    return _table(["goal", "asked", "measured", ""], rows)


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}{unit}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(3, *(len(row[at]) for row in [head, *rows])) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])
