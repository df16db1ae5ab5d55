"""The memory mark of a worker: what is allowed, what is used, and when that is too much."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from inference.memory import MemoryMark, allowed_bytes, mark_for

GIB = 1 << 30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text("MemTotal:       16777216 kB\nMemFree: 1 kB\n")
    return folder


def group(root: Path, path: str, name: str, value: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    (root / path / name).write_text(value + "\n")


def test_without_control_groups_the_machine_is_the_limit(proc: Path, tmp_path: Path) -> None:
    assert allowed_bytes(proc, tmp_path / "none") == 16 * GIB


@pytest.mark.parametrize(
    ("own", "above", "least"),
    [
        (str(2 * GIB), "max", 2 * GIB),
        ("max", str(4 * GIB), 4 * GIB),
        (str(8 * GIB), str(4 * GIB), 4 * GIB),
        ("max", "max", 16 * GIB),
    ],
)
def test_version_two_the_least_of_a_group_and_those_above_it(
    proc: Path, tmp_path: Path, own: str, above: str, least: int
) -> None:
    (proc / "self" / "cgroup").write_text("0::/system.slice/preread.service\n")
    root = tmp_path / "cgroup"
    group(root, "system.slice/preread.service", "memory.max", own)
    group(root, "system.slice", "memory.max", above)
    assert allowed_bytes(proc, root) == least


def test_version_two_in_a_container_that_sees_the_path_of_its_host(
    proc: Path, tmp_path: Path
) -> None:
    (proc / "self" / "cgroup").write_text("0::/kubepods/pod1/abc\n")
    root = tmp_path / "cgroup"
    group(root, ".", "memory.max", str(3 * GIB))
    assert allowed_bytes(proc, root) == 3 * GIB


def test_version_one_and_its_word_for_no_limit(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("9:cpu,cpuacct:/x\n5:memory:/docker/abc\n")
    root = tmp_path / "cgroup"
    group(root, "memory/docker/abc", "memory.limit_in_bytes", str(5 * GIB))
    group(root, "memory", "memory.limit_in_bytes", "9223372036854771712")
    assert allowed_bytes(proc, root) == 5 * GIB


def test_a_kernel_that_tells_nothing_gives_no_mark(tmp_path: Path) -> None:
    assert allowed_bytes(tmp_path / "proc", tmp_path / "cgroup") == 0
    assert MemoryMark(0).passed() is None
    assert not MemoryMark(0).raised_for(GIB)


def test_what_is_set_counts_and_else_a_share() -> None:
    assert mark_for(512).n_bytes == 512 << 20
    assert 0 < mark_for(0).n_bytes < allowed_bytes()
    assert mark_for(0, 2).n_bytes == pytest.approx(mark_for(0).n_bytes / 2, abs=1)
    assert mark_for(512, 2).n_bytes == 512 << 20


def in_a_process_of_its_own(script: str) -> None:
    """Run a script; this process has children of its own, which grow and end as they like."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_memory_that_is_written_to_is_resident_and_memory_that_is_freed_is_not() -> None:
    in_a_process_of_its_own("""
        import numpy as np
        from inference.memory import MemoryMark, resident_bytes

        before = resident_bytes()
        taken = np.ones(64 << 20, dtype=np.uint8)
        assert 60 << 20 <= resident_bytes() - before <= 80 << 20
        mark = MemoryMark(before + (32 << 20))
        assert mark.passed() is not None
        del taken
        assert mark.passed() is None
    """)


def test_memory_of_children_counts() -> None:
    in_a_process_of_its_own("""
        import os, time
        import numpy as np
        from inference.memory import resident_bytes

        before = resident_bytes()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            taken = np.ones(64 << 20, dtype=np.uint8)
            os.write(writer, taken[:1].tobytes())
            time.sleep(600)
            os._exit(0)
        os.close(writer)
        try:
            os.read(reader, 1)
            assert resident_bytes() - before >= 60 << 20
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
    """)


def test_a_mark_that_the_models_alone_reach_is_raised_once() -> None:
    mark = MemoryMark(100)
    assert mark.raised_for(90)
    assert mark.n_bytes == 108
    assert not mark.raised_for(90)
