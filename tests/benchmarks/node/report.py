"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from figures import Figures, goals
from flat import Flat
from markdown_tables import number, table
from stages import STAGES, Way
from standing import PARTS, Standing
from throughput import Scaling, Window
from urgent import Overtaking


def markdown(taken: Figures, facts: Iterable[tuple[str, str]]) -> str:
    """Return the whole report."""
    parts = ["# The whole node: what was measured"]
    parts.append("\n".join(f"- {name}: {value}" for name, value in facts))
    if taken.ways:
        parts += _stages(taken.ways)
    if taken.overtakings:
        parts += _urgent(taken.overtakings)
    if taken.scalings:
        parts += _scaling(taken.scalings)
    if taken.standing is not None:
        parts += _standing(taken.standing)
    if taken.flat is not None and taken.flat.samples:
        parts += _flat(taken.flat)
    met = [[one.name, one.asked, one.measured, _verdict(one.is_met)] for one in goals(taken)]
    if met:
        parts += ["## Goals", table(["goal", "asked", "measured", ""], met)]
    if taken.errors:
        parts.append("Errors:\n\n" + "\n".join(f"- {error}" for error in taken.errors))
    return "\n\n".join(parts) + "\n"


def _verdict(is_met: bool | None) -> str:
    if is_met is None:
        return "unfinished"
    return "reached" if is_met else "**missed**"


def _stages(ways: list[Way]) -> list[str]:
    rows = [
        [stage, *(number(_ms(way.stage(place))) for way in ways)]
        for place, stage in enumerate(STAGES)
    ]
    rows.append(["all of it", *(number(_ms(median(r.total for r in way.rounds))) for way in ways)])
    beyond = [[round_.beyond for round_ in way.rounds] for way in ways]
    rows.append(["beyond quiet and model time", *(number(_ms(median(one))) for one in beyond)])
    rows.append(["the slowest round, the same", *(number(_ms(max(one))) for one in beyond)])
    said = [
        "## One X-ray on an idle node",
        "Milliseconds from the response to its C-STORE to the report proved in the PACS, medians "
        f"of {min(len(way.rounds) for way in ways)} rounds. The quiet time is 1 s. An archive that "
        "does not tell when it was called has that stage in the next one. The own SCP takes 50 ms "
        "to answer a request for storage commitment.",
        table(["", *(way.title for way in ways)], rows),
    ]
    measured = [way for way in ways if way.idle_cpu]
    if measured:
        idle = [
            [way.title, *(number(way.idle_cpu.get(part), " %") for part in PARTS)]
            for way in measured
        ]
        said += ["Processor use of an idle node, in percent of a core:", table(["", *PARTS], idle)]
    return said


def _urgent(overtakings: list[Overtaking]) -> list[str]:
    rows = [
        [
            one.database,
            str(one.n_waiting),
            number(_ms(one.to_start)),
            number(_ms(one.to_result)),
            number(_ms(one.batch_seconds)),
            number(one.batches_to_start),
            number(one.batches_to_result),
            str(one.n_between),
        ]
        for one in overtakings
    ]
    head = ["", "CT studies before it", "to its start, ms", "to its result, ms", "one batch, ms",
            "to start, batches", "to result, batches", "CT begun before it"]  # fmt: skip
    return [
        "## A STAT X-ray behind routine CT",
        "From the transaction that enqueues it. One batch is the time of a CT study, with all that "
        "belongs to it, over its batches of 8 slices.",
        table(head, rows),
    ]


def _scaling(scalings: list[Scaling]) -> list[str]:
    rows = [row for scaling in scalings for row in _of_workers(scaling)]
    head = ["", "analyses/s", "processor ms each", "cores used", "wait to write p50, ms",
            "p95, ms", "longest, ms"]  # fmt: skip
    ratios = [
        [one.database, number(one.ratio, "x"), number(one.cpu_ratio, "x")] for one in scalings
    ]
    return [
        "## Two worker processes",
        "Each keeps to a core of its own, as with `inference.workers = 2`; three X-rays for each "
        "head CT of 24 slices, from a full queue; windows of one worker and of two by turns, and "
        "of one that may use both cores (it decodes and writes while its network runs); medians of "
        f"{len(scalings[0].rounds)} rounds. Somebody else asks for the database's write lock every "
        "30 ms.",
        table(head, rows),
        table(["two over one", "analyses/s", "processor time each"], ratios),
    ]


def _of_workers(scaling: Scaling) -> list[list[str]]:
    one, two = zip(*scaling.rounds, strict=True)
    ways = {"1 worker": one, "2 workers": two, "1 worker, both cores": scaling.free}
    return [
        [
            f"{scaling.database}, {way}",
            number(median(window.per_second for window in windows)),
            number(median(1000 * window.cpu_per_analysis for window in windows)),
            number(median(window.cores for window in windows)),
            number(median(1000 * _percentile(window, 0.5) for window in windows)),
            number(median(1000 * _percentile(window, 0.95) for window in windows)),
            number(median(1000 * max(window.waits, default=0.0) for window in windows)),
        ]
        for way, windows in ways.items()
    ]


def _percentile(window: Window, share: float) -> float:
    waits = sorted(window.waits)
    return waits[min(len(waits) - 1, int(len(waits) * share))] if waits else 0.0


def _standing(standing: Standing) -> list[str]:
    rows = [
        ["after the start", *(number(standing.at_start[part]) for part in PARTS),
         number(standing.own_at_start)],
        ["after an X-ray and a head CT", *(number(standing.later[part]) for part in PARTS),
         number(standing.own_later)],
    ]  # fmt: skip
    return [
        "## Memory",
        f"Resident, in MB, with the two shipped models. The worker took "
        f"{standing.start_seconds:.1f} s from its start until it took jobs.",
        table(["", *PARTS, "of the worker its own"], rows),
    ]


def _flat(flat: Flat) -> list[str]:
    wanted = {0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 1.0}
    chosen = {
        min(flat.samples, key=lambda one, share=share: abs(one.n - share * flat.n)).n
        for share in wanted
    }
    rows = [
        [str(one.n), number(one.worker_mb), number(one.worker_anonymous_mb), number(one.scp_mb),
         str(one.n_descriptors), str(one.n_threads)]
        for one in flat.samples if one.n in chosen
    ]  # fmt: skip
    grown = [(name, flat.slope(what)) for name, what in
             (("worker", "worker_mb"), ("worker, its own", "worker_anonymous_mb"),
              ("scp", "scp_mb"))]  # fmt: skip
    said = ", ".join(f"{name} {slope:+.2f}" for name, slope in grown if slope is not None)
    at_once = f"{flat.concurrency} at once" if flat.concurrency else "as many at once as usual"
    asked = "" if flat.n == flat.n_asked else f" (of {flat.n_asked} that were asked for)"
    return [
        f"## {flat.n} X-rays in a row{asked}",
        f"One worker, {at_once}, {flat.per_second:.1f} analyses/s; {flat.n_failed} did not end "
        f"well. MB per 1,000 analyses over the last four fifths: {said or 'too few'}.",
        table(["analyses", "worker, MB", "its own, MB", "scp, MB", "descriptors", "threads"], rows),
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
