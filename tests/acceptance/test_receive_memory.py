"""Objects of hundreds of megabytes go through without being held in memory."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest
from encoded import image
from kept import assert_kept
from raw_scu import RawAssociation
from vitals import vitals, warmed_up

N_BYTES = 240 << 20
ALLOWED_GROWTH = 16 << 20


@pytest.mark.parametrize("transport", ["streaming"], indirect=True)
@pytest.mark.parametrize("n_senders", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_large_object_takes_no_memory(start_receiver: Any, n_senders: int) -> None:
    node = start_receiver("min_free_disk_mb = 16\n")
    sent = [image("large", number, n_bytes=N_BYTES // n_senders) for number in range(n_senders)]
    before = warmed_up(node).rss_bytes
    peak = before
    statuses: list[int] = []

    def send(number: int) -> None:
        with RawAssociation(node.port, [sent[number].context], timeout=120) as association:
            statuses.append(association.store(sent[number], size=131_000))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(n_senders)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, vitals(node).rss_bytes)
        threads[0].join(0.02)
    print(f"{n_senders} x {N_BYTES // n_senders >> 20} MiB: {(peak - before) / 2**20:.1f} MiB more")

    assert statuses == [0] * n_senders
    assert peak - before < ALLOWED_GROWTH * n_senders
    assert_kept(node, {one.sop_instance_uid: hashlib.sha256(one.data).hexdigest() for one in sent})
