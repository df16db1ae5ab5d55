"""What a process collects at its start: nothing that stays."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import gc
from deploy import garbage
looked = []
gc.callbacks.append(lambda phase, info: looked.append(info["generation"]))
with garbage.paused():
    made = [[] for _ in range(100_000)]
kept = gc.get_freeze_count()
more = [[] for _ in range(5_000)]
assert gc.isenabled() and kept > 100_000 and max(looked, default=0) < 2, (kept, looked)
garbage.hold()
assert not gc.isenabled()
looked.clear()
garbage.settle()
assert gc.isenabled() and gc.get_freeze_count() > kept and not looked, looked
"""


def test_what_was_imported_is_left_out_of_collections() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
