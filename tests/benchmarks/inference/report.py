"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

import networks
from markdown_tables import number, table
from options import (
    BARE,
    CHANNELS_LAST,
    DICTIONARIES,
    ENGINE,
    PARTIES,
    PLAIN,
    TUTORIAL,
    Options,
)  # fmt: skip
from run import Figures, Verdict, goals

_ENGINES = (ENGINE, PLAIN, CHANNELS_LAST)


def markdown(taken: Figures, options: Options, facts: Iterable[tuple[str, str]]) -> str:
    """Return the whole report."""
    parts = ["# Inference: what was measured", "\n".join(f"- {n}: {value}" for n, value in facts)]
    if any(one.taken for one in taken.files):
        parts += [_kind_of_time(options), _costs(taken, options), _ratios(taken, options)]
        parts += _refusals(taken)
    if any(one.memory for one in taken.files):
        parts += [
            "Memory that a process takes at its highest, when it reads the files for the first "
            "time, beyond what it has with its network loaded.",
            _memory(taken),
        ]
    if taken.engines:
        parts += [
            "The network alone, each party in its best batch of 1, 4 and 8; torch is eager, as it "
            "comes (contiguous) and in channels_last. Class maps: a pass that gives them to one "
            "that does not.",
            _networks(taken, options),
        ]
    parts += _starts(taken)
    if rows := goals(taken, options):
        parts += [
            "Goals. The last column says what the ratio would be if Preread's input cost nothing: "
            "its network takes its time anyway.",
            _goals(rows),
        ]
    return "\n\n".join(parts) + "\n"


def _kind_of_time(options: Options) -> str:
    counted = "of processor time" if options.is_by_processor else "as they pass"
    return (
        f"From files to probabilities, milliseconds an image {counted}, medians of all rounds. "
        "The bare network is the same engine with the same batches. Each way runs in a process of "
        "its own, in turn. A speed is the median of what each round gave, and need not be that of "
        "the two medians."
    )


def _costs(taken: Figures, options: Options) -> str:
    rows = [
        [one.case.plan.title, *(number(_ms(one.cost(name, options.by))) for name in PARTIES)]
        for one in taken.files
    ]
    return table(["", *PARTIES], rows)


def _ratios(taken: Figures, options: Options) -> str:
    idle = options.device != "cpu"
    rows = []
    for one in taken.files:
        bare = one.ratio(BARE, options.by)
        cells = [number(one.ratio(name, options.by), "x") for name in (DICTIONARIES, TUTORIAL)]
        rows.append([one.case.plan.title, number(bare, "x"), *cells])
        if idle and bare is not None:
            rows[-1].append(f"{100 * max(0.0, 1 - bare):.0f} %")
    head = ["speed of Preread to", BARE, DICTIONARIES, TUTORIAL]
    return table([*head, "GPU idle"] if idle else head, rows)


def _refusals(taken: Figures) -> list[str]:
    told = [
        f"- {one.case.plan.title}: {name} cannot read it ({why})"
        for one in taken.files
        for name, why in one.refused.items()
    ]
    return ["\n".join(told)] if told else []


def _memory(taken: Figures) -> str:
    rows = [
        [one.case.plan.title, *(number(one.memory.get(name)) for name in PARTIES)]
        for one in taken.files
    ]
    return table(["peak MB", *PARTIES], rows)


def _networks(taken: Figures, options: Options) -> str:
    rows = []
    for one in taken.engines:
        cells = []
        for name in _ENGINES:
            batch, cost = one.best(name, options.by)
            cells.append(f"{number(1e3 * cost)} ({batch})")
        cells += [number(one.ratio(ENGINE, name, options.by), "x") for name in _ENGINES[1:]]
        cells += [f"{one.drift:.1e}", f"{one.share_of_maps(options.by):.3f}x"]
        rows.append([f"{networks.TITLES[one.network]}, {one.engine}", *cells])
    head = ["ms a row (batch)", "engine", "eager", "channels_last"]
    return table([*head, "to eager", "to channels_last", "drift", "class maps"], rows)


def _starts(taken: Figures) -> list[str]:
    told = []
    if taken.starts:
        told.append(
            f"A process that starts, finds its network exported and reads one radiograph has the "
            f"first probability after {median(taken.starts):.2f} s"
            f" (least: {min(taken.starts):.2f} s)."
        )
    if taken.whole_starts:
        told.append(
            f"A worker that starts and finds a radiograph in its queue has the first finding in the"
            f" database after {median(taken.whole_starts):.2f} s"
            f" (least: {min(taken.whole_starts):.2f} s)."
        )
    return told


def _goals(rows: Sequence[Verdict]) -> str:
    told = [
        [
            one.what,
            one.asked,
            one.found,
            "reached" if one.is_met else "**missed**",
            number(one.at_most, "x"),
        ]
        for one in rows
    ]
    return table(["goal", "asked", "measured", "", "free input"], told)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
