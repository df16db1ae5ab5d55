"""A STAT X-ray behind a queue of routine CT: when does it start, when is it read?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from field import Field, database, wait_for
from images import Studies
from stages import seconds_of

# So many are read before the film comes: the worker is under way.
_UNDER_WAY = 3
_SETTLE_SECONDS = 1.0
# Slices that go through the network together: the default of `inference.batch_size`.
BATCH = 8


@dataclass(frozen=True, slots=True)
class Overtaking:
    """What one STAT film met.

    Attributes
    ----------
    n_waiting : int
        CT studies that were queued or in hand when the film was enqueued.
    n_between : int
        CT studies that were begun after the film was enqueued and before it was.
    to_start, to_result : float
        Seconds from the transaction that enqueued it.
    batch_seconds : float
        What a batch of CT takes: the median time of a study over its batches.
    """

    database: str
    n_waiting: int
    n_between: int
    to_start: float
    to_result: float
    study_seconds: float
    batch_seconds: float

    @property
    def batches_to_start(self) -> float:
        return self.to_start / self.batch_seconds

    @property
    def batches_to_result(self) -> float:
        return self.to_result / self.batch_seconds


def run(folder: Path, on: str, n_heads: int, slices: int, rounds: int) -> list[Overtaking]:
    """Queue `n_heads` CT studies without a worker, start one, then send STAT films one by one."""
    with database(on) as url:
        field = Field(folder / "node", url, scp="quiet_seconds = 1")
        with field:
            field.start("scp")
            studies = Studies(slices=slices)
            for _ in range(n_heads):
                field.send(studies.head())
            wait_for(lambda: field.n_in("pending") == n_heads, 120, "the queue")
            field.start("worker")
            field.wait_for_workers()
            wait_for(lambda: _n_ended(field) >= _UNDER_WAY, 120, "the first studies", every=0.02)
            taken = []
            for _ in range(rounds):
                n_before = _n_ended(field)
                if field.n_in("pending") < 2:
                    break
                taken.append(_overtake(field, on, studies, slices))
                # The next one meets a worker that is at its queue again.
                wait_for(lambda n=n_before: _n_ended(field) >= n + 2 or not field.n_in("pending"),
                         120, "the next study", every=0.02)  # fmt: skip
            return taken


def _n_ended(field: Field) -> int:
    return field.n_in("done", "not_analysed", "failed")


def _overtake(field: Field, on: str, studies: Studies, slices: int) -> Overtaking:
    film = studies.film("STAT")
    field.send([film])
    find = (
        "SELECT a.priority, a.requested_at, a.started_at, a.finished_at FROM analysis a "
        "JOIN analysis_instance ai ON ai.analysis_id = a.id "
        "JOIN instance i ON i.id = ai.instance_id WHERE i.sop_instance_uid = ?"
    )

    def finished() -> bool:
        rows = field.node.query(find, film.sop_instance_uid)
        return bool(rows) and rows[0][3] is not None

    wait_for(finished, 1200, "the film's result", every=0.05)
    time.sleep(_SETTLE_SECONDS)
    priority, *times = field.node.query(find, film.sop_instance_uid)[0]
    assert priority == "stat", priority
    requested, started, ended = map(seconds_of, times)
    heads = [
        tuple(None if one is None else seconds_of(one) for one in row)
        for row in field.node.query(
            "SELECT requested_at, started_at, finished_at FROM analysis "
            "WHERE model_name = 'hemorrhage'"
        )
    ]
    waiting = [one for one in heads if one[2] is None or one[2] > requested]
    between = [one for one in heads if one[1] is not None and requested < one[1] < started]
    # From one end to the next: studies may be in hand together.
    ends = sorted(one[2] for one in heads if one[2] is not None)
    study = median(later - before for before, later in pairwise(ends))
    return Overtaking(
        on, len(waiting), len(between), started - requested, ended - requested,
        study, study / max(1, -(-slices // BATCH)),
    )  # fmt: skip
