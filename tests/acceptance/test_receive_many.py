"""Very many associations, abandoned ones, and connections that are none: nothing adds up."""

from __future__ import annotations

import resource
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from encoded import image
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE, IMPLICIT_LITTLE, VERIFICATION
from raw_scu import Gone, RawAssociation, Rejected
from running import Node, wait_for
from senders import Senders, store_one
from vitals import N_WARM_UP, Vitals, assert_back_to, vitals, warmed_up

CONTEXTS = ((VERIFICATION, IMPLICIT_LITTLE), (CT_IMAGE, EXPLICIT_LITTLE))
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
PYNETDICOM_LATER = ["streaming", pytest.param("pynetdicom", marks=pytest.mark.slow)]


def in_ledger(node: Node) -> int:
    return int(node.query("SELECT COUNT(*) FROM association")[0][0])


@pytest.mark.parametrize("transport", PYNETDICOM_LATER, indirect=True)
def test_500_associations_opened_and_abandoned(start_receiver: Any, transport: str) -> None:
    # Idle associations cost pynetdicom's reactor so much that it gets fewer of them.
    n_all, limit = (120, 50) if transport == "pynetdicom" else (500, 200)
    node = start_receiver(f"max_associations = {limit}\n")
    before = warmed_up(node)
    held: list[RawAssociation] = []
    n_rejected = 0
    for number in range(n_all):
        try:
            held.append(RawAssociation(node.port, CONTEXTS, calling="ABANDONER"))
        except Rejected as rejected:
            assert rejected.answer == LOCAL_LIMIT_EXCEEDED, number
            n_rejected += 1
    assert (len(held), n_rejected) == (limit, n_all - limit)
    full = vitals(node)
    kib = (full.rss_bytes - before.rss_bytes) / limit / 1024
    print(f"{limit} open associations: {full}; {kib:.0f} KiB each")
    with pytest.raises(Rejected):
        RawAssociation(node.port, CONTEXTS)
    assert held[0].echo() == held[-1].echo() == 0

    for one in held[:20]:
        one.close()
    with Senders(node.port, 8, per_sender=5) as senders:  # room again while the others stay
        senders.join()
    assert len(senders.acknowledged) == 40
    for one in held[20:]:
        one.close()
    print(f"afterwards: {assert_back_to(node, before, megabytes=24)}")
    ended = "SELECT COUNT(*) FROM association WHERE calling_ae = 'ABANDONER' AND ended_by = 'lost'"
    wait_for(lambda: node.query(ended) == [(limit,)], 60)
    store_one(node, "after")


def test_health_checks_cost_nothing(start_receiver: Any) -> None:
    node = start_receiver()
    before = warmed_up(node)
    wait_for(lambda: in_ledger(node) == N_WARM_UP, 60)
    # Or the last lines of the warm-up would be among those of the health checks.
    wait_for(lambda: n_events(node, "association.ended") == N_WARM_UP, 60, "the warm-up's end")
    n_lines = len(node.events())
    with Senders(node.port, 2) as senders:
        for _ in range(2_000):
            RawAssociation(node.port, ()).close()
        for _ in range(200):
            RawAssociation(node.port, ()).reset()
    assert not senders.n_resent and len(senders.acknowledged) > 2

    with ExitStack() as silent:
        for _ in range(300):
            silent.enter_context(RawAssociation(node.port, ()))
        assert any(seconds < 3 for seconds in seconds_of_storing(node))
    assert_back_to(node, before)
    wait_for(
        lambda: node.query("SELECT COUNT(*) FROM association WHERE ended_at IS NULL") == [(0,)]
    )
    real = [event for event in node.events()[n_lines:] if event["event"].startswith("assoc")]
    others = [event for event in node.events()[n_lines:] if not event["event"].startswith("assoc")]
    assert len(real) <= 3 * (in_ledger(node) - N_WARM_UP)  # opened, ended, nothing of health checks
    assert len(others) < 20, others


def n_events(node: Node, name: str) -> int:
    return sum(event["event"] == name for event in node.events())


def seconds_of_storing(node: Node) -> Iterator[float]:
    """Of up to three images: whatever else the machine does meanwhile, it does not thrice."""
    for number in range(3):
        started = time.monotonic()
        store_one(node, "meanwhile", number)
        yield time.monotonic() - started


@pytest.mark.parametrize("transport", PYNETDICOM_LATER, indirect=True)
def test_more_half_requests_than_descriptors(start_receiver: Any) -> None:
    """Who starts an A-ASSOCIATE-RQ and never ends it takes a descriptor until acse_timeout."""
    node = start_receiver("acse_timeout = 2\nnetwork_timeout = 2\n")
    before = warmed_up(node)
    assert node.process is not None
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (256, 256))
    with ExitStack() as open_ones:
        for _ in range(600):
            one = open_ones.enter_context(RawAssociation(node.port, ()))
            one.send(b"\1")
        wait_for(lambda: gets_in(node), 60, "a place for a good sender")
    assert_back_to(node, before, megabytes=40)  # 250 threads have left their arenas
    store_one(node, "after")


def gets_in(node: Node) -> bool:
    try:
        with RawAssociation(node.port, timeout=5) as opened:
            return opened.echo() == 0
    except (Gone, OSError):
        return False


def rate(port: int, *names: object) -> float:
    """Median seconds per image of four fast senders."""
    with Senders(
        port,
        4,
        lambda who, number: image(*names, who, number, n_bytes=200_000),
        per_sender=75,
    ) as fast:
        fast.join()
    assert not fast.n_resent
    return statistics.median(fast.seconds)


@pytest.mark.parametrize("transport", PYNETDICOM_LATER, indirect=True)
def test_a_slow_sender_slows_nobody_down(start_receiver: Any) -> None:
    node = start_receiver()
    warmed_up(node)
    # Whatever else the machine does meanwhile, it does not each time beside the slow one alone.
    for number in range(4):
        alone = rate(node.port, "alone", number)
        beside = rate_beside_a_slow_sender(node, number)
        print(f"median per image: {1e3 * alone:.1f} ms, {1e3 * beside:.1f} ms beside a slow one")
        if beside < 2 * alone:
            return
    raise AssertionError("a slow sender slows the others down")


def rate_beside_a_slow_sender(node: Node, number: int) -> float:
    slow_one = image("slow", number, n_bytes=400_000)
    begun, enough = threading.Event(), threading.Event()
    statuses: list[int] = []

    def dribble() -> None:
        with RawAssociation(node.port, CONTEXTS, calling="SLOW") as opened:
            opened.socket.settimeout(60)
            opened.send = _at_one_kilobyte_per_second(  # type: ignore[method-assign]
                opened, begun, enough
            )
            statuses.append(opened.store(slow_one))

    slow = threading.Thread(target=dribble)
    slow.start()
    try:
        assert begun.wait(60)
        beside = rate(node.port, "beside", number)
        assert slow.is_alive(), "the slow sender was through too early"
    finally:
        enough.set()
        slow.join(60)
    assert statuses == [0]
    assert node.query(
        "SELECT COUNT(*) FROM instance WHERE sop_instance_uid = ?", slow_one.sop_instance_uid
    ) == [(1,)]
    return beside


def _at_one_kilobyte_per_second(
    opened: RawAssociation, begun: threading.Event, enough: threading.Event
) -> Any:
    """Send slowly until it is enough, then the rest at once."""
    send = opened.send

    def dribble(content: bytes) -> None:
        begun.set()
        for at in range(0, len(content), 50):
            if enough.wait(0.05):
                send(content[at:])
                return
            send(content[at : at + 50])

    return dribble


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_day_of_associations_in_fast_motion(start_receiver: Any, transport: str) -> None:
    """20,000 associations with one C-ECHO or one small image each; nothing grows."""
    n_all, n_warm = (3_000, 500) if transport == "pynetdicom" else (20_000, 2_000)
    node = start_receiver()
    warmed_up(node)
    started = time.monotonic()
    associate_often(node, 0, n_warm)
    before = vitals(node)
    course: list[Vitals] = [before]
    for first in range(n_warm, n_all, n_all // 10):
        associate_often(node, first, min(n_all // 10, n_all - first))
        course.append(vitals(node))
    seconds = time.monotonic() - started

    print(f"{n_all} associations in {seconds:.0f} s")
    for one in course:
        print(f"  {one}")
    after = assert_back_to(node, before, megabytes=20)
    print(f"growth after {n_warm}: {(after.rss_bytes - before.rss_bytes) / 2**20:.1f} MiB")
    wait_for(lambda: in_ledger(node) >= n_all + N_WARM_UP, 60)
    assert node.query("SELECT COUNT(*) FROM association WHERE ended_by <> 'released'") == [(0,)]
    n_images = sum(1 for number in range(n_all) if number % 4 == 0)
    assert node.query("SELECT COUNT(*) FROM instance") == [(n_images + N_WARM_UP,)]


def associate_often(node: Node, first: int, count: int, n_threads: int = 4) -> None:
    failures: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for number in range(first + offset, first + count, n_threads):
                with RawAssociation(node.port, CONTEXTS) as opened:
                    if number % 4:
                        assert opened.echo() == 0
                    else:
                        one = image("day", number, n_bytes=512, series=number // 400)
                        assert opened.store(one) == 0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
