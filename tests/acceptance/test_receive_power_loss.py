"""Power loss: what was acknowledged is on the disk, not merely in the memory of the machine.

The data directory lies on a file system of its own in an image file. A copy of that file, made
without unmounting or syncing anything, holds what the file system has handed to its disk and
nothing of what waits in memory: mounted, it is the disk after a power failure.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from encoded import image
from kept import assert_intact, assert_kept, assert_nothing_besides, paths_of
from raw_pdus import Instance
from running import Node, wait_for
from senders import Senders, store_one
from small_disk import check_file_system, fail_file_system, mounted, need_disk_image

SEED = 20240608
REFUSALS = (0xA700, 0xA701)
_UNSYNCED = b"never synced" * 1000


@pytest.fixture(params=["streaming", pytest.param("pynetdicom", marks=pytest.mark.slow)])
def transport(request: pytest.FixtureRequest) -> str:
    """What is tested here lies behind the transport: the other one may wait for the slow suite."""
    return str(request.param)


def small(sender: int, number: int) -> Instance:
    n_bytes = random.Random(f"{sender}/{number}").choice((500, 3_000, 15_000))
    return image(sender, number, n_bytes=n_bytes, study=sender, series=sender)


def copy_of_the_disk(node: Node, disk_image: Path, copy: Path) -> None:
    """What would be on the disk if the power failed now."""
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    try:
        (node.data / copy.stem).write_bytes(_UNSYNCED)
        subprocess.run(["cp", "--sparse=always", str(disk_image), str(copy)], check=True)
    finally:
        node.process.send_signal(signal.SIGCONT)


def assert_survived(
    copy: Path,
    folder: Path,
    start_receiver: Any,
    acknowledged: dict[str, str],
    *,
    await_recovery: bool,
) -> None:
    with mounted(copy, folder) as at:
        unsynced = at / "data" / copy.stem
        assert not unsynced.exists() or unsynced.read_bytes() != _UNSYNCED, "no loss at all"
        node = start_receiver("min_free_disk_mb = 0\n", data_at=at / "data")
        try:
            assert_kept(node, acknowledged)
            assert_intact(node)
            n_others = len(paths_of(node)) - node.query("SELECT COUNT(*) FROM instance")[0][0]
            store_one(node, "after", folder)
            if await_recovery:
                assert_nothing_besides(node, 120)
        finally:
            node.kill_everything()
    print(f"{len(acknowledged)} acknowledged and kept, {n_others} files without a row")


def lose_power(
    start_receiver: Any, tmp_path: Path, n_losses: int, *, sync_seconds: float = 0.0
) -> None:
    # The more losses, the longer the senders go on.
    megabytes, n_inodes = (256, 32768) if n_losses < 10 else (4096, 1 << 18)
    disk_image = need_disk_image(tmp_path, megabytes, n_inodes)
    moments = random.Random(SEED)
    with mounted(disk_image, tmp_path / "disk") as disk:
        node = start_receiver(
            "min_free_disk_mb = 0\n", data_at=disk / "data", sync_seconds=sync_seconds
        )
        with Senders(node.port, 8, small) as senders:
            for number in range(n_losses):
                time.sleep(moments.uniform(0.2, 1.0))
                before = dict(senders.acknowledged)  # what is answered from here on may be lost
                copy = tmp_path / f"copy-{number}.img"
                copy_of_the_disk(node, disk_image, copy)
                assert_survived(
                    copy,
                    tmp_path / f"after-{number}",
                    start_receiver,
                    before,
                    await_recovery=number == 19,
                )
                copy.unlink()
        # Where recovery takes long the senders have time to use up the disk.
        assert set(senders.statuses) <= {0, 0xA700}, senders.statuses
        node.kill_everything()


def test_a_disk_that_fails_under_load(start_receiver: Any, tmp_path: Path) -> None:
    """The file system turns read-only at its first error; nothing is acknowledged from then on."""
    disk_image = need_disk_image(tmp_path, 128)
    with mounted(disk_image, tmp_path / "disk") as disk:
        node = start_receiver("min_free_disk_mb = 0\n", data_at=disk / "data")
        with Senders(node.port, 8, small, timeout=60) as senders:
            wait_for(lambda: len(senders.acknowledged) > 50, 60)
            fail_file_system(disk)
            n_acknowledged = len(senders.acknowledged)
            wait_for(lambda: n_refused(senders) > 20, 60, "refusals")
            time.sleep(1)
            # No more than each sender was at just then.
            assert len(senders.acknowledged) <= n_acknowledged + 8
        assert not senders.n_unanswered
        assert node.listens()
        print(f"{n_acknowledged} acknowledged before; {senders.statuses}, {senders.rejections}")
        node.kill_everything()

    check_file_system(disk_image)
    with mounted(disk_image, tmp_path / "mended") as disk:
        node = start_receiver("min_free_disk_mb = 0\n", data_at=disk / "data")
        # To a sync that begins when the file system has just turned read-only, Linux answers
        # success: the last rows may be gone. Their files are not, and recovery looks at them when
        # they are a minute old.
        wait_for(lambda: senders.acknowledged.keys() <= uids_of_rows(node), 180, "rows again")
        assert_kept(node, senders.acknowledged)
        assert_intact(node)
        store_one(node, "after")
        node.kill_everything()


def uids_of_rows(node: Node) -> set[str]:
    return {uid for (uid,) in node.query("SELECT sop_instance_uid FROM instance")}


def n_refused(senders: Senders) -> int:
    return sum(senders.rejections.values()) + sum(
        count for status, count in senders.statuses.items() if status in REFUSALS
    )


def test_three_power_losses(start_receiver: Any, tmp_path: Path) -> None:
    lose_power(start_receiver, tmp_path, 3)


@pytest.mark.parametrize("transport", ["streaming"], indirect=True)
def test_three_power_losses_of_a_slow_disk(start_receiver: Any, tmp_path: Path) -> None:
    """Where groups of rows are written while earlier ones are synced."""
    lose_power(start_receiver, tmp_path, 3, sync_seconds=0.003)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["streaming"], indirect=True)
def test_twenty_power_losses(start_receiver: Any, tmp_path: Path) -> None:
    lose_power(start_receiver, tmp_path, 20)
