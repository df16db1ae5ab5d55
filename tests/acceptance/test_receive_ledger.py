"""The association ledger: who came, what came of it and how it ended."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import pytest
from encoded import image
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE, IMPLICIT_LITTLE, VERIFICATION
from raw_scu import RawAssociation, Rejected
from running import Node, wait_for

CT = (CT_IMAGE, EXPLICIT_LITTLE)
CONTEXTS = (CT, (VERIFICATION, IMPLICIT_LITTLE), (CT_IMAGE, "1.2.840.10008.1.2.4.90"))
COLUMNS = (
    "state", "n_received", "n_equal", "n_refused", "n_bytes", "calling_ae", "called_ae",
    "peer_host", "peer_port", "seconds", "refusals", "contexts", "reject_reason",
)  # fmt: skip


def entries(node: Node, calling_ae: str) -> list[dict[str, Any]]:
    found = node.query(
        f"SELECT {', '.join(COLUMNS)} FROM v_associations WHERE calling_ae = ? ORDER BY opened_at",
        calling_ae,
    )
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def entry(node: Node, calling_ae: str) -> dict[str, Any]:
    """The one entry of a sender, once it is closed."""
    wait_for(lambda: [one for one in entries(node, calling_ae) if one["state"] != "open"], 60)
    (found,) = entries(node, calling_ae)
    return found


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["n_received"], found["n_equal"], found["n_refused"], found["n_bytes"]


def as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def test_a_release_with_everything_that_can_happen(
    start_receiver: Any, database: str | None
) -> None:
    node = start_receiver(database_url=database)
    one, two = image("one", n_bytes=10_000), image("two")
    broken = image("broken")
    cut = type(broken)(*broken.context[:1], broken.sop_instance_uid, *broken.context[1:], b"\0")
    unlike = type(one)(one.sop_class_uid, two.sop_instance_uid, one.transfer_syntax_uid, one.data)
    began = time.time()
    with RawAssociation(node.port, CONTEXTS, calling="ALL") as opened:
        port = opened.socket.getsockname()[1]
        assert opened.echo() == 0
        statuses = [opened.store(each) for each in (one, two, one, cut, unlike)]
    assert statuses == [0, 0, 0, 0xC000, 0xA900]

    found = entry(node, "ALL")
    n_bytes = 2 * len(one.data) + len(two.data) + len(cut.data) + len(unlike.data)
    assert found["state"] == "released"
    assert counts(found) == (3, 1, 2, n_bytes)
    assert as_json(found["refusals"]) == {"0xC000": 1, "0xA900": 1}
    assert (found["called_ae"], found["peer_host"], found["peer_port"]) == (
        "PREREAD", "127.0.0.1", port,
    )  # fmt: skip
    assert 0 <= found["seconds"] < time.time() - began + 0.1
    assert [context[:2] for context in as_json(found["contexts"])] == [
        list(one) for one in CONTEXTS
    ]


def test_every_other_end_counts_what_came_before(start_receiver: Any) -> None:
    node = start_receiver()
    one = image("one")
    for number, end in enumerate(("abort", "close", "reset")):
        opened = RawAssociation(node.port, [CT], calling=end.upper())
        assert opened.store(one) == 0
        getattr(opened, end)()
        found = entry(node, end.upper())
        assert found["state"] == ("aborted" if end == "abort" else "lost")
        assert counts(found) == (1, min(number, 1), 0, len(one.data))

    with RawAssociation(node.port, calling="ECHO") as opened:
        assert opened.echo() == 0
    found = entry(node, "ECHO")
    assert (found["state"], counts(found)) == ("released", (0, 0, 0, 0))


def test_rejections_name_the_setting(start_receiver: Any, database: str | None) -> None:
    node = start_receiver(
        'calling_ae_allow = ["TRUSTED", "LIMITED"]\ncalled_ae_allow = ["PREREAD"]\n'
        "max_associations = 2\nacceptors = 1\nae_limits = { LIMITED = 1 }\n",
        database_url=database,
    )
    asked = [
        ("STRANGER", "PREREAD", (1, 1, 3), "calling_ae_allow"),
        ("TRUSTED", "OTHER", (1, 1, 7), "called_ae_allow"),
        ("LIMITED", "PREREAD", (2, 3, 2), "ae_limits"),
        ("TRUSTED", "PREREAD", (2, 3, 2), "max_associations"),
    ]
    with RawAssociation(node.port, calling="LIMITED"):
        for number, (calling, called, answer, setting) in enumerate(asked):
            if number == 3:
                held = RawAssociation(node.port, calling="TRUSTED")
            with pytest.raises(Rejected) as rejected:
                RawAssociation(node.port, calling=calling, called=called)
            assert rejected.value.answer == answer
            wait_for(partial(is_explained, node, calling, setting), 60, f"word of {setting}")
        held.release()


def is_explained(node: Node, calling_ae: str, setting: str) -> bool:
    return any(
        one["state"] == "rejected" and setting in one["reject_reason"]
        for one in entries(node, calling_ae)
    )


def test_what_a_killed_node_left_open_is_lost(start_receiver: Any) -> None:
    node = start_receiver()
    opened = RawAssociation(node.port, [CT], calling="LEFT")
    assert opened.store(image("one")) == 0
    wait_for(lambda: entries(node, "LEFT"), 60)
    node.kill_everything()
    opened.close()

    node.start("scp")
    assert entry(node, "LEFT")["state"] == "lost"
