"""A whole node with two workers: what an emergency department sends, and who says what of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import Node, storescu, wait_for

from inference.training.phantoms.files import write_chest

pytestmark = pytest.mark.slow


def test_what_emergency_sends_is_stat_and_the_log_says_who_read_it(
    node: Node, tmp_path: Path
) -> None:
    node.configure(
        'workers = 2\n[[rule]]\nname = "emergency first"\ncalling_ae = ["EMERGENCY"]\n'
        'priority = "stat"\n'
    )
    node.start()
    wait_for(lambda: len(node.query("SELECT 1 FROM v_workers")) == 2, 180, "two workers")
    for number, title in enumerate(("EMERGENCY", "WARD")):
        film = write_chest(tmp_path / title, seed=13 + number, pneumothorax=True)
        storescu(node.port, [film], calling=title)
    ended = "SELECT COUNT(*) FROM analysis WHERE state <> 'pending'"
    wait_for(lambda: node.query(ended) == [(2,)], 180, "two outcomes")

    rows = node.query(
        "SELECT i.calling_ae, t.priority, t.attempts, t.retry_seconds, t.worker, t.analysis_id, "
        "i.trace_id FROM v_turnaround t JOIN v_instances i USING (study_instance_uid)"
    )
    assert {(row[0], *row[1:4]) for row in rows} == {
        ("EMERGENCY", "stat", 1, 0), ("WARD", "routine", 1, 0)
    }  # fmt: skip
    named = node.query("SELECT worker FROM v_workers")

    def said_of(analysis: str) -> list[dict[str, Any]]:
        of_it = [one for one in node.events() if one.get("analysis") == analysis[:12]]
        return [one for one in of_it if "worker" in one["part"]]

    steps = {"analysis.started", "analysis.computed", "analysis.ended"}
    for *_, worker, analysis, trace in rows:
        wait_for(  # a worker writes its lines after its rows
            lambda analysis=analysis: steps <= {one["event"] for one in said_of(analysis)},
            60,
            "a line for each step",
        )
        for one in said_of(analysis):
            assert (one["worker"], one["trace"], one["model"]) == (worker, trace, "pneumothorax")
        assert (worker,) in named
    wait_for(
        lambda: {one["part"] for one in node.events() if "worker" in one} == {"worker", "worker-1"},
        60,
        "a line of each worker",
    )
