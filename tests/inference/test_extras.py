"""Extras are installed from the source: Preread is on no package index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def sources() -> list[Path]:
    folders = ("db", "scp", "inference", "deploy")
    found = [
        path for one in folders for end in ("py", "md") for path in (ROOT / one).rglob(f"*.{end}")
    ]
    return [*found, ROOT / "README.md"]


def test_nobody_is_told_to_ask_an_index() -> None:
    told = [
        path.name for path in sources() if re.search(r"pip install\s+'?preread", path.read_text())
    ]
    assert told == []


def test_every_extra_that_is_named_is_there() -> None:
    named = {
        name
        for path in sources()
        for found in re.findall(r"installed_by\(['\"](\w+)['\"]\)|'\.\[(\w+)\]'", path.read_text())
        for name in found
        if name
    }
    assert {"train", "explain", "openvino", "tensorrt", "nvimagecodec"} <= named
    assert named <= set(EXTRAS)
