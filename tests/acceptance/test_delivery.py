"""One node, many destinations, each with a fault of its own: nothing is lost, nothing is doubled.

All of them take the results of the same two studies at the same time.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from delivered import (
    CLASSES,
    KINDS,
    KO,
    SC,
    assert_holds_exactly,
    assert_nothing_dangles,
    deliveries,
    destination,
    meant_for,
    read_all,
    send,
    wait_until_analysed,
    wait_until_committed,
)
from pacs import SR, SR_3D, SR_ENHANCED, Pacs
from running import Node, wait_for

from inference.training.phantoms.files import write_chest, write_head_series

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_N_ANALYSES = 2  # of a chest and of a head with a bleed


@dataclass
class Scene:
    """What there was after everything had settled."""

    node: Node
    pacs: dict[str, Pacs]
    images: list[Path]

    def got(self, name: str) -> Pacs:
        """The PACS, which has exactly what was meant for it."""
        assert_holds_exactly(self.pacs[name], meant_for(self.node, name))
        return self.pacs[name]

    def states(self, name: str) -> set[tuple[Any, ...]]:
        return set(deliveries(self.node, name, "state", "proof"))


class RefusesOnce:
    """Says of each object once that it is not there."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def __call__(self, _transaction: str, instances: list[str]) -> dict[str, int]:
        self.seen.update(instances)
        return {uid: 0x0110 for uid in instances if self.seen[uid] == 1}


class AbortsFirst:
    """Aborts so many C-STOREs before it answers."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self, association: Any, _instance: str) -> None:
        if self.left:
            self.left -= 1
            association.abort()


def all_kept(_transaction: str, _instances: list[str]) -> dict[str, int]:
    return {}


def peers(port: int) -> dict[str, Pacs]:
    """Every kind of PACS; the node listens on `port`."""
    made = {
        "same": Pacs(CLASSES),
        "apart": Pacs(CLASSES),
        "refuses": Pacs(CLASSES),
        "silent": Pacs(CLASSES),
        "older": Pacs((SR, SC, KO)),
        "oldest": Pacs((SR_ENHANCED, SC, KO)),
        "aborts": Pacs(CLASSES),
        "late": Pacs(CLASSES),
    }
    for one in made.values():
        one.answers = all_kept
    made["apart"].report_port = port
    made["refuses"].answers = RefusesOnce()
    made["refuses"].shown = False
    made["silent"].answers = None
    made["aborts"].breaks = AbortsFirst(3)
    made["late"].stop()
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    head = write_head_series(folder / "head", seed=21, bleed="subdural", size=256)
    return [write_chest(folder / "chest", seed=13, pneumothorax=True), *head]


@pytest.fixture(scope="module")
def scene(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    node = Node(tmp_path_factory.mktemp("delivery") / "node")
    made = peers(node.port)
    nobody = socket.socket()
    nobody.bind(("127.0.0.1", 0))  # its port is nobody else's either
    more: dict[str, dict[str, Any]] = {"silent": {"commit_hold_seconds": 0.5, "commit_seconds": 2}}
    node.configure(
        "".join(destination(name, one.port, **more.get(name, {})) for name, one in made.items())
        + destination("dead", nobody.getsockname()[1], max_attempts=2)
    )
    node.start()
    try:
        send(node, *images)
        wait_until_analysed(node, _N_ANALYSES)
        wait_until_committed(node, *(name for name in made if name != "late"))
        dead = "SELECT state FROM v_destinations WHERE destination = 'dead'"
        wait_for(lambda: node.query(dead) == [("waiting",)], 60, "the breaker of the dead one")
        # It comes back when the others have long been done.
        assert {state for state, _ in Scene(node, made, images).states("late")} == {"pending"}
        made["late"].start()
        wait_until_committed(node, "late")
        yield Scene(node, made, images)
        assert node.stop() == 0
    finally:
        if node.process is not None:
            node.kill_everything()
        for one in made.values():
            one.stop()
        nobody.close()


def test_the_answer_comes_on_the_association_that_asked(scene: Scene) -> None:
    pacs = scene.got("same")
    assert scene.states("same") == {("committed", "commit")}
    assert pacs.n_finds == 0
    assert Counter(pacs.received) == Counter(pacs.stored.keys()), "each was sent once"
    kinds = Counter(kind for (kind,) in deliveries(scene.node, "same", "kind"))
    assert set(kinds) == set(KINDS)
    assert kinds["sr"] == _N_ANALYSES
    assert_nothing_dangles(pacs, scene.images)


def test_the_answer_comes_on_an_association_to_the_node(scene: Scene) -> None:
    pacs = scene.got("apart")
    assert scene.states("apart") == {("committed", "commit")}
    assert pacs.n_finds == 0
    transactions = {transaction for transaction, _ in pacs.asked}

    def taken() -> set[str]:
        events = scene.node.events()
        return {one["transaction"] for one in events if one["event"] == "commitment.answer_taken"}

    # What has its row is logged a moment later.
    wait_for(lambda: transactions <= taken(), 60, "all of them in the log")


def test_what_was_refused_is_sent_again_until_it_is_kept(scene: Scene) -> None:
    pacs = scene.got("refuses")
    assert scene.states("refuses") == {("committed", "commit")}
    assert set(Counter(pacs.received).values()) == {2}
    assert set(deliveries(scene.node, "refuses", "n_attempts", "last_error")) == {(2, None)}
    (number, *_) = deliveries(scene.node, "refuses", "delivery_id")[0]
    shown = scene.node.preread("deliveries", "show", str(number)).stdout
    assert "committed, proved by commit" in shown
    assert "storage commitment was answered with 0x0110" in shown


def test_without_an_answer_a_query_proves(scene: Scene) -> None:
    pacs = scene.got("silent")
    assert scene.states("silent") == {("committed", "find")}
    assert pacs.n_finds >= len(pacs.stored)
    assert len(pacs.asked) == len(pacs.received) == len(pacs.stored), "nothing twice"


@pytest.mark.parametrize(("name", "best"), [("older", SR), ("oldest", SR_ENHANCED)])
def test_a_lesser_class_for_those_who_take_no_better(scene: Scene, name: str, best: str) -> None:
    pacs = scene.got(name)
    assert scene.states(name) == {("committed", "commit")}
    reports = {uid: ds for uid, ds in read_all(pacs).items() if ds.Modality == "SR"}
    assert {str(ds.SOPClassUID) for ds in reports.values()} == {best}
    for uid in reports:
        ((root,),) = scene.node.query(
            "SELECT r.sop_class_uid FROM v_objects f JOIN v_objects r "
            "ON r.object_id = f.fallback_of_id WHERE f.sop_instance_uid = ?",
            uid,
        )
        assert root == SR_3D
    assert_nothing_dangles(pacs, scene.images)


def test_what_an_abort_cut_off_arrives(scene: Scene) -> None:
    pacs = scene.got("aborts")
    assert scene.states("aborts") == {("committed", "commit")}
    assert max(Counter(pacs.received).values()) > 1, "it did abort"
    failed = [
        one
        for one in scene.node.events()
        if one["event"] == "delivery.failed" and one["destination"] == "aborts"
    ]
    assert failed
    assert all("broke" in one["reason"] for one in failed), failed


def test_a_dead_destination_holds_nobody_up_and_loses_nothing(scene: Scene) -> None:
    rows = deliveries(scene.node, "dead", "state", "n_attempts <= 1", "last_error IS NULL")
    assert len(rows) == len(scene.got("same").stored)
    assert {(state, few) for state, few, _ in rows} == {("pending", 1)}
    ((state, pending, error),) = scene.node.query(
        "SELECT state, n_pending, last_error FROM v_destinations WHERE destination = 'dead'"
    )
    assert (state, pending) == ("waiting", len(rows))
    assert "cannot connect" in error
    assert scene.node.query(
        "SELECT DISTINCT state, n_committed, n_dead, last_error FROM v_destinations "
        "WHERE destination != 'dead'"
    ) == [("working", len(rows), 0, None)]
    said = " ".join(scene.node.preread("destinations").stdout.split())
    assert "cannot connect" in said
    (number, *_) = deliveries(scene.node, "dead", "delivery_id")[0]
    shown = scene.node.preread("deliveries", "show", str(number)).stdout
    assert "state: pending" in shown
    assert "the destination is waiting since" in shown
    assert "cannot connect" in shown


def test_one_that_comes_late_gets_everything_once(scene: Scene) -> None:
    pacs = scene.got("late")
    assert scene.states("late") == {("committed", "commit")}
    assert Counter(pacs.received) == Counter(pacs.stored.keys())
    assert set(deliveries(scene.node, "late", "n_attempts")) == {(1,)}, "no attempts burnt"


def test_each_gets_the_same_objects_but_for_the_class_of_the_report(scene: Scene) -> None:
    pictures = {
        name: {uid for uid, ds in read_all(one).items() if ds.Modality != "SR"}
        for name, one in scene.pacs.items()
    }
    assert len(set(map(frozenset, pictures.values()))) == 1
    assert scene.node.query("SELECT COUNT(*) FROM analysis") == [(_N_ANALYSES,)]
    # Nobody asked for masks.
    ((n_objects,),) = scene.node.query("SELECT COUNT(*) FROM v_objects WHERE kind <> 'seg'")
    # One fallback of each report in each class.
    assert n_objects == len(scene.got("same").stored) + 2 * _N_ANALYSES


def test_nothing_refers_to_what_does_not_go_along(node: Node, images: list[Path]) -> None:
    wanted = {"reports": ["sr"], "shown": ["sr", "sc"], "keys": ["ko"], "all": list(KINDS)}
    made = {name: Pacs(CLASSES) for name in wanted}
    try:
        node.configure(
            "".join(
                destination(name, one.port, wanted[name], proof="find")
                for name, one in made.items()
            )
        )
        node.start()
        send(node, *images)
        wait_until_analysed(node, _N_ANALYSES)
        wait_until_committed(node, *wanted)
        for name, one in made.items():
            assert_holds_exactly(one, meant_for(node, name))
            assert_nothing_dangles(one, images)
        assert node.stop() == 0
    finally:
        for one in made.values():
            one.stop()
