"""A full disk: refused in time, never acknowledged, never corrupt, and over when there is room."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from encoded import image, sha256
from kept import (
    assert_files_kept,
    assert_intact,
    assert_kept,
    assert_nothing_besides,
    assert_whole,
    wait_until_indexed,
)
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE
from raw_scu import RawAssociation, Rejected
from running import Node, wait_for
from senders import Senders

CONTEXTS = ((CT_IMAGE, EXPLICIT_LITTLE),)
TEMPORARY_CONGESTION = (2, 3, 1)
OUT_OF_RESOURCES, INDEX_UNAVAILABLE = 0xA700, 0xA701


@pytest.fixture(params=["streaming", pytest.param("pynetdicom", marks=pytest.mark.slow)])
def transport(request: pytest.FixtureRequest) -> str:
    """What is tested here lies behind the transport: the other one may wait for the slow suite."""
    return str(request.param)


def ballast(disk: Path, megabytes: int) -> Path:
    path = disk / "ballast"
    path.write_bytes(bytes(megabytes << 20))
    return path


def fill(node: Node, acknowledged: dict[str, str], n_bytes: int) -> list[int]:
    """Send on one association until three images in a row are refused; return all statuses.

    Half a second may go by before the server learns that the disk is full.
    """
    statuses: list[int] = []
    with RawAssociation(node.port, CONTEXTS) as opened:
        while len(statuses) < 1000 and not all((statuses or [0])[-3:]):
            one = image("fill", n_bytes, len(acknowledged), len(statuses), n_bytes=n_bytes)
            statuses.append(opened.store(one))
            if statuses[-1] == 0:
                acknowledged[one.sop_instance_uid] = sha256(one)
    return statuses


def test_below_the_watermark(disk: Path, start_receiver: Any, database: str | None) -> None:
    spare = ballast(disk, 16)
    node = start_receiver("min_free_disk_mb = 16\n", data_at=disk / "data", database_url=database)
    acknowledged: dict[str, str] = {}
    open_before = RawAssociation(node.port, CONTEXTS)
    statuses = fill(node, acknowledged, 100_000)
    assert set(statuses) == {0, OUT_OF_RESOURCES}
    # Well below: at the edge the file system's own needs would decide.
    with suppress(OSError):
        (disk / "more").write_bytes(bytes(2 << 20))
    refused = image("refused")
    wait_for(lambda: open_before.store(refused) == OUT_OF_RESOURCES, 60, "word of the full disk")
    with pytest.raises(Rejected) as rejected:
        RawAssociation(node.port, CONTEXTS)
    assert rejected.value.answer == TEMPORARY_CONGESTION
    assert_kept(node, acknowledged)
    assert_nothing_besides(node)

    spare.unlink()
    # No restart, not even a new association.
    wait_for(lambda: open_before.store(refused) == 0, 60, "room again")
    open_before.release()
    with RawAssociation(node.port, CONTEXTS) as opened:
        assert opened.store(image("new")) == 0
    assert_kept(node, acknowledged)
    assert_nothing_besides(node)
    print(f"{len(acknowledged)} images before the watermark")


def assert_kept_and_clean(node: Node, acknowledged: dict[str, str]) -> None:
    """Once there is room; then once more after a restart."""
    wait_until_indexed(node, acknowledged)
    assert_kept(node, acknowledged)
    assert node.stop() == 0
    node.start("scp")
    assert_kept(node, acknowledged)
    assert_whole(node)
    assert_intact(node)


def test_to_the_last_byte(disk: Path, start_receiver: Any, database: str | None) -> None:
    """Watermark off: writes and commits fail in the middle of an image."""
    spare = ballast(disk, 16)
    node = start_receiver("min_free_disk_mb = 0\n", data_at=disk / "data", database_url=database)
    acknowledged: dict[str, str] = {}
    statuses: list[int] = []
    for n_bytes in (1_500_000, 100_000, 3_000):  # finer and finer, until nothing at all fits in
        statuses += fill(node, acknowledged, n_bytes)
    assert set(statuses) <= {0, OUT_OF_RESOURCES, INDEX_UNAVAILABLE}
    assert OUT_OF_RESOURCES in statuses
    assert_files_kept(node, acknowledged)
    print(f"{len(acknowledged)} images before the disk was full; statuses {set(statuses)}")

    spare.unlink()
    with Senders(node.port, 4, per_sender=3) as senders:
        senders.join()
    assert_kept_and_clean(node, acknowledged | senders.acknowledged)


def test_several_senders_at_the_last_byte(disk: Path, start_receiver: Any) -> None:
    spare = ballast(disk, 16)
    node = start_receiver("min_free_disk_mb = 0\n", data_at=disk / "data")
    with Senders(node.port, 8, timeout=60) as senders:
        wait_for(lambda: senders.statuses[OUT_OF_RESOURCES] > 100, 60, "a full disk")
        n_before = len(senders.acknowledged)
        spare.unlink()
        wait_for(lambda: len(senders.acknowledged) > n_before + 8, 60, "room again")
    assert set(senders.statuses) <= {0, OUT_OF_RESOURCES, INDEX_UNAVAILABLE}
    assert not senders.n_unanswered
    print(f"{len(senders.acknowledged)} acknowledged, statuses {dict(senders.statuses)}")
    assert_kept_and_clean(node, senders.acknowledged)


@pytest.mark.parametrize(("watermark", "n_kept"), [(1, 1024), (0, 0)])
def test_hardly_an_inode_left(disk: Path, start_receiver: Any, watermark: int, n_kept: int) -> None:
    """Bytes are free, names are not: another way to be full."""
    node = start_receiver(f"min_free_disk_mb = {watermark}\n", data_at=disk / "data")
    n_left = os.statvfs(disk).f_favail
    spare = [disk / f"spare-{number}" for number in range(n_left - n_kept - 50)]
    for path in spare:
        path.touch()
    acknowledged: dict[str, str] = {}
    assert set(fill(node, acknowledged, 600)) == {0, OUT_OF_RESOURCES}
    if watermark:
        with pytest.raises(Rejected) as rejected:
            RawAssociation(node.port, CONTEXTS)
        assert rejected.value.answer == TEMPORARY_CONGESTION
    assert_files_kept(node, acknowledged)
    for path in spare:
        path.unlink()
    time.sleep(1)  # the file system is asked twice a second
    with RawAssociation(node.port, CONTEXTS) as opened:
        assert opened.store(image("room again")) == 0
    wait_until_indexed(node, acknowledged)
    assert_kept(node, acknowledged)
    assert_intact(node)
