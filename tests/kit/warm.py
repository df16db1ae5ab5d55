"""Starts parts of a node from a process that has imported everything already.

Importing takes three seconds, which a test that restarts a node a hundred times cannot pay. Run as
a program this module imports the command line once, then forks a child for each order it reads;
the child is an ordinary process with a session of its own that runs ``preread`` with the arguments
it was given, and can be killed like one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# A variable for the child: how long each of its syncs takes.
SYNC_SECONDS = "WARM_START_SYNC_SECONDS"
_ROOT = Path(__file__).parents[2]


class WarmStart:
    """The process that forks; end it with `close`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        assert self._process.stdin and self._process.stdout
        self._orders: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout

    def start(
        self, arguments: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]
    ) -> WarmProcess:
        """Run ``preread`` with `arguments` in `folder`; standard error is appended to `log`."""
        order = {
            "arguments": list(arguments),
            "log": str(log),
            "folder": str(folder),
            "environment": dict(environment),
        }
        return WarmProcess(self.ask(order), self)

    def ask(self, order: Mapping[str, object]) -> int:
        self._orders.write(json.dumps(order).encode() + b"\n")
        self._orders.flush()
        answer = self._answers.readline()
        assert answer, "the warm start has ended"
        return int(answer)

    def close(self) -> None:
        self._orders.close()
        self._process.wait(60)


@dataclass
class WarmProcess:
    """What `subprocess.Popen` would be for a child that someone else forked."""

    pid: int
    parent: WarmStart
    returncode: int | None = field(default=None)

    def __post_init__(self) -> None:
        self._descriptor = os.pidfd_open(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("preread", timeout or 0)
            self.returncode = self.parent.ask({"status": self.pid})
            os.close(self._descriptor)
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve() -> None:
    import deploy.analysing
    import deploy.cli.serve
    import deploy.delivering
    import deploy.receiving  # noqa: F401 - what the parts import when they run

    for line in sys.stdin:
        order = json.loads(line)
        if "status" in order:
            status = os.waitstatus_to_exitcode(os.waitpid(order["status"], 0)[1])
            print(status, flush=True)
            continue
        child = os.fork()
        if not child:
            _become(order)
        print(child, flush=True)


def _become(order: Mapping[str, object]) -> None:
    from deploy.cli import main

    os.setsid()
    arguments = order["arguments"]
    environment = order["environment"]
    assert isinstance(arguments, list) and isinstance(environment, dict)
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, nothing), (1, nothing), (2, log)):
        os.dup2(source, target)
    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(environment)
    if SYNC_SECONDS in environment:
        _slow_syncs_down(float(environment[SYNC_SECONDS]))
    sys.argv = ["preread", *arguments]
    main()
    os._exit(0)


def _slow_syncs_down(seconds: float) -> None:
    """Make each sync that the program asks for itself take longer, as on a slow disk."""

    def slowly(sync: Callable[[int], None]) -> Callable[[int], None]:
        def wait_and_sync(descriptor: int) -> None:
            time.sleep(seconds)
            sync(descriptor)

        return wait_and_sync

    os.fsync, os.fdatasync = slowly(os.fsync), slowly(os.fdatasync)


if __name__ == "__main__":
    _serve()
