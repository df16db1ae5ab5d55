"""A file system of a few megabytes, to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, megabytes: int, n_inodes: int = 4096) -> Iterator[Path]:
    """Mount an ext4 image, or a tmpfs where there are no loop devices; needs root.

    Anybody else runs the tests in namespaces of their own: ``unshare -Urm pytest ...``.
    """
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root, or `unshare -Urm pytest ...`")
    at = folder / "disk"
    at.mkdir()
    if not (_loop(folder, at, megabytes, n_inodes) or _tmpfs(at, megabytes, n_inodes)):
        if os.environ.get("CI") == "true":
            pytest.fail("root, but neither a loop device nor a tmpfs can be mounted")
        pytest.skip("neither a loop device nor a tmpfs can be mounted")
    try:
        yield at
    finally:
        # Lazy: whatever still has a file open there must not keep the mount after the test.
        _run("umount", "--lazy", str(at))


def _loop(folder: Path, at: Path, megabytes: int, n_inodes: int) -> bool:
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    # -m 0: root may otherwise use blocks that are not counted as free.
    made = _run("mkfs.ext4", "-q", "-m", "0", "-N", str(n_inodes), str(image))
    return made and _run("mount", "-o", "loop", str(image), str(at))


def _tmpfs(at: Path, megabytes: int, n_inodes: int) -> bool:
    options = f"size={megabytes}m,nr_inodes={n_inodes}"
    return _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at))


def _run(program: str, *arguments: str) -> bool:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        return False
    return subprocess.run([found, *arguments], capture_output=True, check=False).returncode == 0
