"""Where networks run, told without torch where there can be no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inference.device import choose_device, driver_found
from inference.errors import InferenceError

_NO_LIBRARY = "libnothing-of-that-name.so.1"
_CODE = """
import sys
from inference.device import choose_device, configure_torch, configure_loaded_torch, driver_found
configure_torch(3)
found = choose_device("auto" if not driver_found() else "cpu")
assert "torch" not in sys.modules
import torch
configure_loaded_torch()
print(found, torch.get_num_threads(), torch.backends.cudnn.deterministic)
"""


def test_a_machine_without_a_driver_has_no_gpu(tmp_path: Path) -> None:
    assert not driver_found(tmp_path, _NO_LIBRARY)


@pytest.mark.parametrize("node", ["dev/nvidia0", "dev/nvidiactl", "dev/kfd", "dev/dxg"])
def test_a_device_node_is_a_driver(tmp_path: Path, node: str) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / node).touch()
    assert driver_found(tmp_path, _NO_LIBRARY)


def test_a_library_is_a_driver(tmp_path: Path) -> None:
    assert driver_found(tmp_path, "libc.so.6")


def test_auto_is_what_torch_says() -> None:
    assert choose_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == "cpu"
    with pytest.raises(InferenceError, match=r"inference\.device is cuda:99, but"):
        choose_device("cuda:99")


def test_torch_is_configured_when_it_comes() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    ended = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.stdout.split() == ["cpu", "3", "True"], ended.stderr
