"""A worker that has analysed 140 studies has the descriptors and threads that it had after 40."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from node_process import Node, process_tree, wait_for
from plain_ct import write_plain_bundle, write_plain_series
from pydicom.uid import RLELossless
from stored_studies import StoredStudies

from db import FileStore, create_engine
from inference.bundle import open_bundle
from inference.job_states import Priority

pytestmark = pytest.mark.slow

# The first need what is opened once.
FIRST, ALL = 40, 140


def counted(pid: int) -> tuple[int, int, int]:
    """Descriptors and threads of a process, and how many children it has."""
    tree = process_tree(pid)
    descriptors = sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in tree)
    threads = sum(len(list(Path(f"/proc/{one}/task").iterdir())) for one in tree)
    return descriptors, threads, len(tree) - 1


def test_a_hundred_more_analyses_leave_nothing_open(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    bundle = open_bundle(write_plain_bundle(tmp_path / "plain"))
    node.configure(
        f'shipped = false\nbundles = ["{bundle.path}"]\nconcurrency = 2\ndecode_processes = 1\n'
    )
    node.launch("worker")
    assert node.process is not None
    try:
        wait_for(lambda: node.log.exists() and "worker.started" in node.log.read_text(), 120)
        engine = create_engine(f"sqlite:///{node.data / 'preread.sqlite'}")
        studies = StoredStudies(engine, FileStore(node.data))
        plain = write_plain_series(tmp_path / "plain-series", (0.2, 0.3))
        packed = write_plain_series(tmp_path / "packed-series", (0.2, 0.3))
        for path in packed:
            image = pydicom.dcmread(path)
            image.compress(RLELossless, generate_instance_uid=False)
            image.save_as(path, enforce_file_format=True)
        series = [*studies.copies(plain, ALL // 2), *studies.copies(packed, ALL // 2)]
        # One after the other of each kind: what is counted is not what one kind needs first.
        mixed = [one for pair in zip(series[: ALL // 2], series[ALL // 2 :], strict=True)
                 for one in pair]  # fmt: skip
        for one in mixed:
            studies.ask(bundle, *one, Priority.ROUTINE)

        def done() -> int:
            rows = node.query("SELECT COUNT(*) FROM analysis WHERE state = 'done'")
            return int(rows[0][0])

        wait_for(lambda: done() >= FIRST, 120, "the first analyses", every=0.02)
        before = counted(node.process.pid)
        wait_for(lambda: done() == ALL, 300, "all analyses")
        after = counted(node.process.pid)
        print(f"descriptors, threads, children: {before} after {FIRST}, {after} after {ALL}")
        studies.close()
        engine.dispose()
    finally:
        assert node.stop() == 0
    # Connections to the database are opened as they are needed, three files each, `db.pool_size`
    # of them. What an analysis left open would be there 100 times more; what those of one kind
    # did, 50 times.
    assert after[0] <= before[0] + 21
    assert after[1] <= before[1] + 5
    assert after[2] == before[2]
