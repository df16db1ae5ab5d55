"""NumPy multiplies in the thread that asks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_COMMAND = """
import os, sys
sys.argv = ["preread", "--help"]
from deploy.cli import main
try:
    main()
except SystemExit:
    pass
import numpy  # which the help has loaded
a = numpy.ones((2000, 2000), numpy.float32)
a @ a
print(os.environ["OPENBLAS_NUM_THREADS"], len(os.listdir("/proc/self/task")))
"""


@pytest.mark.parametrize(("given", "told"), [(None, "1"), ("2", "2")])
def test_a_command_multiplies_in_one_thread_unless_it_is_told_otherwise(
    given: str | None, told: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    threads, there = done.stdout.split()[-2:]
    assert threads == told
    cores = len(os.sched_getaffinity(0))
    assert int(there) == min(int(told), cores)
