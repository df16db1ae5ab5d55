"""File systems of a few megabytes: to be filled, to fail, to lose their power."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, megabytes: int, n_inodes: int = 4096) -> Iterator[Path]:
    """Mount an ext4 image, or a tmpfs where there are no loop devices; needs root.

    Anybody else runs the tests in namespaces of their own: ``unshare -Urm pytest ...``.
    """
    _need_root()
    image = disk_image(folder, megabytes, n_inodes)
    if image is not None:
        with mounted(image, folder / "disk") as at:
            yield at
        return
    at = folder / "disk"
    at.mkdir()
    options = f"size={megabytes}m,nr_inodes={n_inodes}"
    if not _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)):
        _cannot("neither a loop device nor a tmpfs can be mounted")
    try:
        yield at
    finally:
        _run("umount", "--lazy", str(at))


def disk_image(folder: Path, megabytes: int, n_inodes: int = 4096) -> Path | None:
    """Make an ext4 file system in a file; None if it cannot be made or mounted here."""
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    # -m 0: root may otherwise use blocks that are not counted as free.
    if not _run("mkfs.ext4", "-q", "-m", "0", "-N", str(n_inodes), str(image)):
        return None
    trial = folder / "trial"
    trial.mkdir()
    if not _run("mount", "-o", "loop", str(image), str(trial)):
        return None
    _run("umount", str(trial))
    return image


def need_disk_image(folder: Path, megabytes: int, n_inodes: int = 32768) -> Path:
    """Skip where no image can be mounted."""
    _need_root()
    image = disk_image(folder, megabytes, n_inodes)
    if image is None:
        _cannot("no loop device can be mounted")
    assert image is not None
    return image


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """Mount an image; its journal is replayed if it was not unmounted before."""
    at.mkdir()
    # commit: by itself the file system writes its journal every five minutes only, not every five
    # seconds, so that nothing gets to the disk without being asked for.
    if not _run("mount", "-o", "loop,commit=300,errors=remount-ro", str(image), str(at)):
        pytest.fail(f"{image} cannot be mounted")
    try:
        yield at
    finally:
        deadline = time.monotonic() + 5
        while not _run("umount", str(at)):
            if time.monotonic() > deadline:
                # Whatever still has a file open there must not keep the mount after the test.
                _run("umount", "--lazy", str(at))
                break
            time.sleep(0.1)


def fail_file_system(at: Path) -> None:
    """Make ext4 believe in an error on its disk: it turns read-only."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    (device,) = [mount[0] for mount in mounts if mount[1] == str(at)]
    trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
    if not trigger.exists():
        _cannot("ext4 here cannot be told to fail")
    trigger.write_text("1")


def check_file_system(image: Path) -> None:
    """Mend what `fail_file_system` did."""
    _run("e2fsck", "-fy", str(image))  # says 1 when it mended something
    assert _run("e2fsck", "-fn", str(image))


def _need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root, or `unshare -Urm pytest ...`")


def _cannot(reason: str) -> None:
    # Also in CI: a container may have no loop devices, and nothing that is installed gives it any.
    pytest.skip(reason)


def _run(program: str, *arguments: str) -> bool:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        return False
    return subprocess.run([found, *arguments], capture_output=True, check=False).returncode == 0
