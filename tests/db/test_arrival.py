"""Files in the order of their arrival, and work that one process does at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.arrival import ArrivalOrder
from db.claim import claimed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    arrived=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8")), st.integers(0, 2**63 - 1)), max_size=50
    )
)
def test_files_come_in_the_order_of_their_arrival(
    tmp_path: Path, arrived: list[tuple[str, int]]
) -> None:
    with ArrivalOrder(tmp_path) as order:
        order.add(arrived[:20])
        order.add(arrived[20:])
        ordered = sorted(set(arrived), key=lambda one: (one[1], len(one[0]), one[0].encode()))
        assert list(order) == [path for path, _ in ordered]
        assert len(order) == len(ordered)
        assert list(tmp_path.iterdir()) == []  # a killed process leaves nothing


def test_order_of_arrival_in_many_batches(tmp_path: Path) -> None:
    with ArrivalOrder(tmp_path) as order:
        order.add((str(number), 10_000 - number) for number in range(5_000))
        assert [int(path) for path in order] == list(reversed(range(5_000)))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "turn.lock"
    code = (
        "import sys; from pathlib import Path; from db.claim import claimed\n"
        f"with claimed(Path({str(path)!r})) as mine: print(mine, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert other.stdout is not None and other.stdout.readline() == b"True\n"
    with claimed(path) as mine:
        assert not mine
    other.kill()
    other.wait()
    with claimed(path) as mine:
        assert mine
    with claimed(path) as mine:  # and again
        assert mine
