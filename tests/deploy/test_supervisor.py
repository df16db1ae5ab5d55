"""The supervisor: a dead part comes back, a wrong setting ends the node, a stop ends the parts."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from waiting import wait_for

from deploy import supervisor as supervisor_module
from deploy.errors import NodeError
from deploy.supervisor import Part, PartEnd, Supervisor


def part(name: str, program: str) -> Part:
    return Part(name, [sys.executable, "-c", program])


def run(supervisor: Supervisor, stop: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=supervisor.run, args=(stop,))
    thread.start()
    return thread


def wait_for_lines(path: Path, number: int) -> list[str]:
    def lines() -> list[str]:
        return path.read_text().splitlines() if path.exists() else []

    wait_for(lambda: len(lines()) >= number, 120, f"{number} lines of {path.name}", every=0.05)
    return lines()


def test_a_dead_part_is_started_again(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    program = f"import os; open({str(notes)!r}, 'a').write(f'{{os.getpid()}}\\n'); os._exit(1)"
    stop = threading.Event()
    thread = run(Supervisor([part("dies", program)], os.environ, 5), stop)
    pids = wait_for_lines(notes, 2)
    stop.set()
    thread.join(90)

    assert pids[0] != pids[1]
    assert not thread.is_alive()


def test_who_is_told_of_an_end_is_told_the_process_and_how_it_ended(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    program = (
        f"import os; open({str(notes)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "os.kill(os.getpid(), 9)"
    )
    ends: list[PartEnd] = []
    stop = threading.Event()
    thread = run(Supervisor([part("dies", program)], os.environ, 5, ends.append), stop)
    pids = wait_for_lines(notes, 2)
    stop.set()
    thread.join(90)
    assert ends[0] == PartEnd("dies", int(pids[0]), -9)


def test_a_part_that_ends_to_be_started_anew_does_not_wait_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever else ends would wait for ten minutes.
    monkeypatch.setattr(supervisor_module, "_STEADY_SECONDS", -1.0)
    monkeypatch.setattr(supervisor_module, "_FIRST_WAIT_SECONDS", 600.0)
    notes = tmp_path / "notes"
    program = (
        f"open({str(notes)!r}, 'a').write(f'{{__import__(\"time\").time()}}\\n')\n"
        "raise SystemExit(72)"
    )
    stop = threading.Event()
    supervisor = Supervisor([part("grows", program)], os.environ, 5, at_once=(72,))
    thread = run(supervisor, stop)
    try:
        wait_for_lines(notes, 5)
    finally:
        stop.set()
        thread.join(90)


def test_a_part_with_wrong_settings_ends_the_node() -> None:
    supervisor = Supervisor(
        [part("sleeps", "import time; time.sleep(60)"), part("wrong", "raise SystemExit(2)")],
        os.environ,
        5,
    )
    with pytest.raises(NodeError, match="wrong cannot start"):
        supervisor.run(threading.Event())


def test_wrong_settings_after_a_good_start_do_not_end_the_node(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    # The first life ends by itself, the second finds the settings in the middle of an edit.
    program = (
        f"p = {str(notes)!r}\n"
        "import os; lives = len(open(p).readlines()) if os.path.exists(p) else 0\n"
        "open(p, 'a').write('life\\n')\n"
        "raise SystemExit({0: 1, 1: 2}.get(lives, 1))"
    )
    stop = threading.Event()
    thread = run(Supervisor([part("edited", program)], os.environ, 5), stop)
    wait_for_lines(notes, 3)
    assert thread.is_alive()
    stop.set()
    thread.join(90)


def test_parts_end_in_good_order(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    program = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(notes)!r}, 'a').write('ended\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"open({str(notes)!r}, 'a').write('ready\\n')\n"
        "time.sleep(600)"
    )
    stop = threading.Event()
    thread = run(Supervisor([part("a", program), part("b", program)], os.environ, 60), stop)
    wait_for_lines(notes, 2)
    stop.set()
    thread.join(90)

    assert notes.read_text().splitlines() == ["ready", "ready", "ended", "ended"]


def test_a_part_that_does_not_end_is_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(notes)!r}, 'a').write('ready\\n'); time.sleep(600)"
    )
    stop = threading.Event()
    thread = run(Supervisor([part("deaf", program)], os.environ, 0.5), stop)
    wait_for_lines(notes, 1)
    with capture_logs() as logs:
        stop.set()
        thread.join(90)

    assert not thread.is_alive()
    assert [one["event"] for one in logs] == ["part.killed"]


def test_a_part_that_cannot_be_started_again_or_told_of_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setattr(supervisor_module, "_LONGEST_WAIT_SECONDS", 0.3)
    popen, calls = subprocess.Popen, iter(range(100))

    def short_of_memory(*given: Any, **how: Any) -> Any:
        if next(calls) == 1:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return popen(*given, **how)

    def fails(_end: PartEnd) -> None:
        raise RuntimeError("no room to count")

    monkeypatch.setattr(subprocess, "Popen", short_of_memory)
    program = f"open({str(notes)!r}, 'a').write('begun\\n'); raise SystemExit(1)"
    stop = threading.Event()
    thread = run(Supervisor([part("dies", program)], os.environ, 5, fails), stop)
    wait_for_lines(notes, 2)
    assert thread.is_alive()
    stop.set()
    thread.join(90)
    assert not thread.is_alive()
