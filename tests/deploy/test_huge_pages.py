"""Processes that run networks have their memory in large pages, where the kernel gives them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_for

from deploy.huge_pages import for_huge_pages

_MODE = "sys/kernel/mm/transparent_hugepage/enabled"
_TUNABLE = "glibc.malloc.hugetlb=1"


def machine(folder: Path, mode: str) -> Path:
    place = folder / _MODE
    place.parent.mkdir(parents=True)
    place.write_text(f"{mode}\n")
    return folder


def test_who_asks_is_heard(tmp_path: Path) -> None:
    root = machine(tmp_path, "always [madvise] never")
    assert for_huge_pages({}, root) == {"GLIBC_TUNABLES": _TUNABLE}
    other = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    assert for_huge_pages(other, root) == {"GLIBC_TUNABLES": f"glibc.malloc.arena_max=2:{_TUNABLE}"}


@pytest.mark.parametrize("given", ["glibc.malloc.hugetlb=0", _TUNABLE])
def test_who_has_decided_is_left_alone(tmp_path: Path, given: str) -> None:
    root = machine(tmp_path, "always [madvise] never")
    assert for_huge_pages({"GLIBC_TUNABLES": given}, root) == {}


@pytest.mark.parametrize("mode", ["[always] madvise never", "always madvise [never]"])
def test_nobody_asks_for_nothing(tmp_path: Path, mode: str) -> None:
    assert for_huge_pages({}, machine(tmp_path, mode)) == {}


def test_nobody_asks_a_kernel_without_them(tmp_path: Path) -> None:
    assert for_huge_pages({}, tmp_path) == {}


def test_another_c_library_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, "always [madvise] never")
    for told in ("glibc 2.34", "musl 1.2", ""):
        monkeypatch.setattr(os, "confstr", lambda name, told=told: told)
        assert for_huge_pages({}, root) == {}


# The command line, but that it tells of itself in place of doing what it is asked.
_TELLS = """
import os, sys
from deploy import cli
from deploy.cli import run
run.run = lambda asked: print(os.getpid(), os.environ.get("GLIBC_TUNABLES", ""))
{before}
cli.main()
"""


@pytest.fixture
def plain_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path)}


def told(command: list[str], environment: dict[str, str], given: str = "") -> tuple[int, str, str]:
    """Return the process id of a command, the one that it tells, and its tunables."""
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        line, _ = process.communicate(given, timeout=120)
    assert process.returncode == 0
    known, _, tunables = line.rstrip("\n").partition(" ")
    return process.pid, known, tunables


def program(folder: Path, name: str, before: str = "") -> str:
    path = folder / name
    path.write_text(_TELLS.format(before=before))
    return str(path)


@pytest.mark.parametrize(
    ("command", "asks"), [("predict", True), ("train", True), ("results", False)]
)
def test_a_command_that_runs_networks_begins_again_under_the_same_id(
    plain_environment: dict[str, str], tmp_path: Path, command: str, asks: bool
) -> None:
    preread = program(tmp_path, "preread")
    process, known, tunables = told(
        [sys.executable, preread, command, "a b", ""], plain_environment
    )
    assert known == str(process)
    assert tunables == (for_huge_pages({}).get("GLIBC_TUNABLES", "") if asks else "")


def test_it_begins_again_once_though_the_variable_is_erased(
    plain_environment: dict[str, str], tmp_path: Path
) -> None:
    """As glibc does where Python has the right to bind the port of DICOM, 104."""
    preread = program(tmp_path, "preread", 'os.environ.pop("GLIBC_TUNABLES", None)')
    process, known, tunables = told([sys.executable, preread, "predict", "x"], plain_environment)
    assert (known, tunables) == (str(process), "")


def test_another_program_that_uses_the_command_line_goes_on(
    plain_environment: dict[str, str], tmp_path: Path
) -> None:
    own = program(tmp_path, "launcher.py")
    named = program(tmp_path, "other.py", "sys.argv[0] = 'preread'")
    for command in ([own, "predict", "x"], [named, "predict", "x"]):
        assert told([sys.executable, *command], plain_environment)[2] == ""
    text = _TELLS.format(before="sys.argv = ['preread', 'predict', 'x']")
    assert told([sys.executable, "-c", text], plain_environment)[2] == ""
    text = _TELLS.format(before="")
    assert told([sys.executable, "-", "predict", "x"], plain_environment, text)[2] == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["up", "worker"])
def test_a_worker_has_its_memory_in_large_pages(
    plain_environment: dict[str, str], tmp_path: Path, command: str
) -> None:
    environment = plain_environment | {
        "PREREAD_DATA_DIR": str(tmp_path / "data"),
        "PREREAD_SCP__PORT": "0",
    }
    if command == "worker":
        made = [sys.executable, "-m", "deploy", "db", "upgrade"]
        subprocess.run(made, env=environment, check=True, capture_output=True)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy", command], env=environment, stdout=log, stderr=log
        )
    try:
        started = wait_for(
            lambda: "worker.started" in log_of(tmp_path) or process.poll() is not None,
            120,
            "the start",
        )
        assert started and process.poll() is None, log_of(tmp_path)
        worker = process.pid if command == "worker" else _part_of(log_of(tmp_path), "worker")
        told = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
        asks = for_huge_pages({})
        assert [one for one in told if one.startswith(b"GLIBC_TUNABLES=")] == [
            f"{name}={value}".encode() for name, value in asks.items()
        ]
        if asks:
            told_of = Path(f"/proc/{worker}/smaps_rollup").read_text()
            found = re.search(r"^AnonHugePages:\s+(\d+) kB", told_of, re.MULTILINE)
            assert found is not None and int(found[1]) > 10_000
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


def _part_of(log: str, name: str) -> int:
    found = re.search(rf'"name": "{name}", "pid": (\d+)|name={name} pid=(\d+)', log)
    assert found is not None, log
    return int(found[1] or found[2])
