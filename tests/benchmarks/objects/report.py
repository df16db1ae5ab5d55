"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

import ours
from markdown_tables import number, table
from run import Figures


def markdown(taken: Sequence[Figures], facts: Iterable[tuple[str, str]]) -> str:
    """Return the whole report."""
    parts = [
        "# Result objects: what was measured",
        "\n".join(f"- {name}: {value}" for name, value in facts),
        "Milliseconds as they pass, medians of all rounds. The goal is for the first two columns: "
        "writing, synced, is the disk's, and before it sends an object the first time delivery "
        "reads it back and checks it once more.",
        _steps(taken),
        "Beside it highdicom alone, which draws nothing into its captures and checks nothing; "
        "the ratio is the median of those within a round.",
        _peers(taken),
        _goals(taken),
    ]
    return "\n\n".join(parts) + "\n"


def _steps(taken: Sequence[Figures]) -> str:
    names = (*ours.STEPS, ours.KEPT, ours.SENT)
    rows = [
        [
            f"{one.title}: {one.objects}",
            *(number(1e3 * median(clock.wall[name] for clock in one.ours)) for name in names),
        ]
        for one in taken
    ]
    return table(["", *names], rows)


def _peers(taken: Sequence[Figures]) -> str:
    rows = [
        [
            one.title,
            number(one.milliseconds),
            number(one.highdicom_milliseconds),
            number(one.ratio, "x"),
            number(one.memory),
            number(one.highdicom_memory),
        ]
        for one in taken
    ]
    head = ["", "Preread, ms", "highdicom, ms", "Preread to highdicom"]
    return table([*head, "Preread, peak MB", "highdicom, peak MB"], rows)


def _goals(taken: Sequence[Figures]) -> str:
    rows = [
        [
            one.title,
            f"at most {one.limit_ms:.0f} ms",
            f"{number(one.milliseconds)} ms",
            f"{number(one.cpu_milliseconds)} ms",
            "pass" if one.milliseconds <= one.limit_ms else "**miss**",
        ]
        for one in taken
    ]
    return table(["goal", "asked", "measured", "of it processor", ""], rows)
