"""When a series is complete, and what completing it does in one transaction."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from in_memory import InMemory
from one_series import insert_analysis, insert_series
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from waiting import wait_for

from db.corrections import correct
from db.schema import Instance, ResultObject
from scp import SeriesWatch, rules_in_force
from scp.requestor import association, store_each
from scp.rules import Decision
from scp.series import CompleteSeries

NOW = datetime.now(UTC)
OWN_DEVICE = "2.25.4711"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def node(start_node: Any) -> Any:
    """One whose series wait for longer than a slow machine takes to look at them."""
    return start_node(quiet_seconds=60, open_association_seconds=720)


class Completions:
    """Records what was completed; raises for the series that are to fail."""

    def __init__(self) -> None:
        self.seen: list[tuple[CompleteSeries, Decision]] = []
        self.failing: set[str] = set()

    def __call__(self, connection: sa.Connection, series: CompleteSeries, to: Decision) -> Decision:
        connection.execute(sa.text("UPDATE study SET n_positive = n_positive + 1"))
        if series.series_instance_uid in self.failing:
            raise RuntimeError("no queue")
        self.seen.append((series, to))
        return to


class Clock:
    """A clock that stands at the real time plus what a test adds, and one that nobody sets."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self.passed = 0.0
        self.still: tuple[datetime, float] | None = None

    def __call__(self) -> datetime:
        return (datetime.now(UTC) if self.still is None else self.still[0]) + self.ahead

    def steady(self) -> float:
        return (time.monotonic() if self.still is None else self.still[1]) + self.passed

    def stand_still(self) -> None:
        """Go on by what the test says alone, however long the machine takes."""
        self.still = datetime.now(UTC), time.monotonic()

    def advance(self, seconds: float) -> None:
        self.passed += seconds
        self.set(seconds)

    def set(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


Make = Callable[..., tuple[SeriesWatch, Completions, Clock]]


@pytest.fixture
def watch_on() -> Make:
    def make(
        node: Any, routed: Callable[[], None] = lambda: None
    ) -> tuple[SeriesWatch, Completions, Clock]:
        done, clock = Completions(), Clock()
        rules = tuple(one for one in rules_in_force(()) if not one.model.endswith("-own"))
        watch = SeriesWatch(
            node.engine,
            node.files,
            node.settings,
            rules,
            done,
            lambda _connection: frozenset((OWN_DEVICE,)),
            clock,
            routed,
            clock.steady,
        )
        return watch, done, clock

    return make


def send(node: Any, *images: Any) -> None:
    answers = [answer for _, answer in store_each(node.peer, [InMemory(one) for one in images])]
    assert answers == [0] * len(images)
    node.wait_until_all_ended()


def states(node: Any) -> list[str]:
    return [row["state"] for row in node.rows("SELECT state FROM series ORDER BY 1")]


def test_complete_after_quiet_time(node: Any, image: Any, watch_on: Make) -> None:
    watch, done, clock = watch_on(node)
    series = generate_uid()
    images = [image(series, InstanceNumber=n) for n in range(3)]
    send(node, *images)
    assert watch.run_once() == 0
    clock.advance(node.settings.quiet_seconds + 1)
    assert watch.run_once() == 1
    assert watch.run_once() == 0
    ((complete, decision),) = done.seen
    assert complete.series_instance_uid == series
    assert complete.n_instances == len(complete.instance_ids) == 3
    assert [route.model for route in decision.routes] == ["hemorrhage"]
    (row,) = node.rows("SELECT * FROM series")
    assert (row["state"], row["instance_digest"]) == ("complete", complete.instance_digest)
    assert row["trace_id"] == complete.trace_id
    assert json.loads(row["routing"])["routes"][0]["rule"] == "head-ct"


def test_an_open_association_holds_the_series_open_for_a_while(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, _done, clock = watch_on(node)
    one = InMemory(image())
    with association(node.peer, [one.context]) as opened:
        other = store_each(node.peer, [one])
        assert next(other)[1] == 0  # this association stays open until the generator ends
        clock.advance(node.settings.quiet_seconds + 1)
        assert watch.run_once() == 0
        clock.advance(node.settings.open_association_seconds)
        assert watch.run_once() == 1
        other.close()
        assert opened.is_established


def test_a_clock_that_is_set_back_makes_no_series_wait_for_so_long(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, _done, clock = watch_on(node)
    quiet = node.settings.quiet_seconds
    send(node, image())
    clock.stand_still()
    assert watch.run_once() == 0
    clock.set(-3600)  # the image came in an hour
    assert watch.run_once() == 0
    clock.advance(0.5 * quiet)
    assert watch.run_once() == 0
    clock.advance(0.6 * quiet)
    assert watch.run_once() == 1
    assert states(node) == ["complete"]


def test_a_clock_that_is_set_back_cuts_off_nobody_who_still_sends(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, done, clock = watch_on(node)
    quiet = node.settings.quiet_seconds
    series = generate_uid()
    clock.stand_still()
    clock.set(-3600)
    send(node, image(series))
    assert watch.run_once() == 0
    clock.advance(0.9 * quiet)
    time.sleep(0.6)  # so much later its series is told of another image
    send(node, image(series))
    assert watch.run_once() == 0
    clock.advance(0.5 * quiet)
    assert watch.run_once() == 0
    clock.advance(0.6 * quiet)
    one = InMemory(image(series))
    with association(node.peer, [one.context]):
        time.sleep(0.6)
        other = store_each(node.peer, [one])
        assert next(other)[1] == 0  # its association stays open until the generator ends
        assert watch.run_once() == 0
        clock.advance(2 * quiet)
        assert watch.run_once() == 0
        clock.advance(node.settings.open_association_seconds)
        assert watch.run_once() == 1
        other.close()
    assert done.seen[0][0].n_instances == 3


def test_a_clock_that_is_set_again_and_again_holds_no_series_up_for_ever(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, _done, clock = watch_on(node)
    quiet = node.settings.quiet_seconds
    send(node, image())
    clock.stand_still()
    assert watch.run_once() == 0
    for _ in range(6):  # half as often as a series has to be quiet
        clock.set(0.2 * quiet)
        clock.advance(0.5 * quiet)
        if watch.run_once():
            break
    assert states(node) == ["complete"]
    assert clock.passed <= 1.5 * quiet


def test_after_a_clock_that_is_set_forward_a_series_has_its_quiet_time(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, done, clock = watch_on(node)
    send(node, image())
    clock.stand_still()
    assert watch.run_once() == 0
    clock.set(3600)
    assert watch.run_once() == 0  # it may be in the middle of being sent
    clock.advance(0.5 * node.settings.quiet_seconds)
    assert watch.run_once() == 0
    clock.advance(0.6 * node.settings.quiet_seconds)
    assert watch.run_once() == 1
    assert len(done.seen) == 1


def test_an_association_for_each_image(node: Any, image: Any, watch_on: Make) -> None:
    watch, done, clock = watch_on(node)
    series = generate_uid()
    for number in range(3):
        send(node, image(series, InstanceNumber=number))
    clock.advance(node.settings.quiet_seconds + 1)
    assert watch.run_once() == 1
    assert done.seen[0][0].n_instances == 3


def test_the_order_of_arrival_changes_nothing_and_a_late_image_does(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, done, clock = watch_on(node)
    series = generate_uid()
    images = [image(series, InstanceNumber=n) for n in range(4)]
    send(node, images[2], images[0], images[1])
    clock.advance(node.settings.quiet_seconds + 1)
    assert watch.run_once() == 1
    send(node, *images[:3])  # the same ones again, in another order
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    assert {complete.instance_digest for complete, _ in done.seen} == {
        done.seen[0][0].instance_digest
    }
    send(node, images[3])
    assert states(node) == ["open"]
    clock.advance(node.settings.quiet_seconds + 1)
    assert watch.run_once() == 1
    assert done.seen[-1][0].instance_digest != done.seen[0][0].instance_digest
    assert done.seen[-1][0].n_instances == 4


def test_other_bytes_under_a_known_uid_are_another_set(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, done, clock = watch_on(node)
    one = image()
    send(node, one)
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    one.PixelData = b"\1" * len(one.PixelData)
    send(node, one)
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    first, second = (complete for complete, _ in done.seen)
    assert first.instance_digest != second.instance_digest
    assert (first.n_instances, second.n_instances) == (1, 1)
    assert first.instance_ids != second.instance_ids


def test_one_failing_series_stops_no_other_and_is_tried_again(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, done, clock = watch_on(node)
    bad, good = image(), image()
    send(node, bad)
    send(node, good)
    done.failing = {bad.SeriesInstanceUID}
    clock.stand_still()
    clock.advance(node.settings.quiet_seconds + 1)
    assert watch.run_once() == 1
    assert states(node) == ["complete", "open"]
    # What the failed one wrote was rolled back with it.
    positive = node.rows("SELECT n_positive FROM study WHERE n_positive > 1")
    assert not positive
    done.failing.clear()
    assert watch.run_once() == 0  # it waits for its next turn
    clock.advance(3)
    assert watch.run_once() == 1
    assert states(node) == ["complete", "complete"]


def test_an_image_between_looking_and_completing(
    node: Any, image: Any, watch_on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, done, clock = watch_on(node)
    series = generate_uid()
    send(node, image(series))
    clock.advance(node.settings.quiet_seconds + 1)
    route = watch._router.route

    def slowly(instances: Any, *more: Any) -> Any:
        if len(instances) == 1:
            send(node, image(series))
        return route(instances, *more)

    monkeypatch.setattr(watch._router, "route", slowly)
    assert watch.run_once() == 0
    assert states(node) == ["open"]
    clock.advance(node.settings.quiet_seconds + 1)
    assert watch.run_once() == 1
    assert done.seen[0][0].n_instances == 2


def test_frontal_view_beside_a_lateral_one(node: Any, image: Any, watch_on: Make) -> None:
    watch, done, clock = watch_on(node)
    series = generate_uid()
    views = [
        image(series, Modality="DX", BodyPartExamined="CHEST", ViewPosition=view)
        for view in ("LL", "PA")
    ]
    send(node, *views)
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    models = [route.model for route in done.seen[0][1].routes]
    assert models == ["pneumothorax", "chest-findings"]


def contributed(device_uid: str) -> list[Dataset]:
    item = Dataset()
    item.Manufacturer, item.DeviceUID = "PACS", device_uid
    return [item]


def made_here(node: Any, series: str, instance: str) -> None:
    """Enter a result object, as an analysis would."""
    with node.engine.begin() as connection:
        insert_series(connection, NOW, study="1.9", series="1.9.1", state="complete")
        insert_analysis(connection, NOW, study="1.9", series="1.9.1")
        connection.execute(
            sa.insert(ResultObject).values(
                analysis_id="a", kind="sc", sop_class_uid=CAPTURE, sop_instance_uid=instance,
                series_instance_uid=series, path="none", size_bytes=1, sha256="0",
                created_at=NOW,
            )
        )  # fmt: skip


SIGNS = {
    "Manufacturer": {"Manufacturer": "Preread"},
    "DeviceUID": {"DeviceUID": OWN_DEVICE},
    "InstanceCreatorUID": {"InstanceCreatorUID": OWN_DEVICE},
    "ContributingEquipmentSequence": {"ContributingEquipmentSequence": contributed(OWN_DEVICE)},
    "SOPInstanceUID": {"SOPInstanceUID": "1.9.8"},
    "SeriesInstanceUID": {"series": "1.9.9"},
}
NO_SIGNS = {
    "DeviceUID": {"DeviceUID": "1.2.3"},
    "InstanceCreatorUID": {"InstanceCreatorUID": "1.2.3"},
    "ContributingEquipmentSequence": {"ContributingEquipmentSequence": contributed("1.2.3")},
}


@pytest.mark.parametrize("sign", SIGNS)
def test_one_sign_that_is_left_is_enough_for_a_result_not_to_be_read(
    node: Any, image: Any, watch_on: Make, sign: str
) -> None:
    watch, done, clock = watch_on(node)
    made_here(node, "1.9.9", "1.9.8")
    send(node, image(**SIGNS[sign]))  # else an image that a rule would have read
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    ((_, decision),) = done.seen
    assert decision.routes == ()
    (reason,) = decision.reasons
    assert reason.startswith("never read: ")
    (routing,) = node.rows("SELECT routing FROM series WHERE routing IS NOT NULL")
    assert json.loads(routing["routing"])["reasons"] == [reason]


@pytest.mark.parametrize("sign", NO_SIGNS)
def test_what_others_made_is_read(node: Any, image: Any, watch_on: Make, sign: str) -> None:
    watch, done, clock = watch_on(node)
    send(node, image(**NO_SIGNS[sign]))
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    assert [route.model for route in done.seen[0][1].routes] == ["hemorrhage"]


@pytest.mark.parametrize("sign", [*(name for name in SIGNS if name != "SeriesInstanceUID"), "SR"])
def test_results_among_the_images_leave_their_set_as_it_is(
    node: Any, image: Any, watch_on: Make, sign: str
) -> None:
    watch, done, clock = watch_on(node)
    made_here(node, "1.9.9", "1.9.8")
    series = generate_uid()
    # So many that not every header is asked.
    send(node, *(image(series, InstanceNumber=number) for number in range(40)))
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    report = {"sop_class": "1.2.840.10008.5.1.4.1.1.88.34", "Modality": "SR"}
    result = report if sign == "SR" else {"sop_class": CAPTURE, **SIGNS[sign]}
    send(node, image(series, **result))
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    (before, _), (after, decision) = done.seen
    assert after.instance_ids == before.instance_ids
    assert after.instance_digest == before.instance_digest, "else it is analysed once more"
    assert "note: 1 of 41 instances left out: no image, or our own" in decision.reasons


def test_what_became_of_the_decision_stands_with_the_series(
    node: Any, image: Any, watch_on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, _done, clock = watch_on(node)
    monkeypatch.setattr(watch, "_on_complete", lambda *_: Decision((), ("too many",)))
    send(node, image())
    clock.advance(node.settings.quiet_seconds + 1)
    watch.run_once()
    (row,) = node.rows("SELECT routing FROM series")
    assert json.loads(row["routing"]) == {"routes": [], "reasons": ["too many"]}


def test_a_missing_file_is_tried_again(node: Any, image: Any, watch_on: Make) -> None:
    watch, _done, clock = watch_on(node)
    send(node, image())
    (row,) = node.rows("SELECT path FROM instance")
    path = node.files.absolute(row["path"])
    away = path.rename(path.with_suffix(".away"))
    clock.advance(node.settings.quiet_seconds + 1)
    assert watch.run_once() == 0
    away.rename(path)
    clock.advance(3)
    assert watch.run_once() == 1


def test_the_thread(start_node: Any, image: Any, watch_on: Make) -> None:
    node = start_node(quiet_seconds=0.2, poll_seconds=0.05)
    watch, done, _ = watch_on(node)
    watch.start()
    send(node, image())
    wait_for(lambda: done.seen, every=0.05)
    watch.stop()
    assert len(done.seen) == 1


def test_it_looks_again_when_the_next_series_may_be_complete(
    start_node: Any, image: Any, watch_on: Make
) -> None:
    node = start_node(quiet_seconds=0.8, poll_seconds=3600)
    called = threading.Event()
    watch, done, _ = watch_on(node, called.set)
    send(node, image())
    assert not called.is_set()
    watch.start()
    assert called.wait(60)
    watch.stop()
    assert len(done.seen) == 1


def test_what_nobody_reads_calls_nobody(start_node: Any, image: Any, watch_on: Make) -> None:
    node = start_node()
    called = threading.Event()
    watch, _, clock = watch_on(node, called.set)
    send(node, image(Modality="MR"))
    clock.advance(100)
    assert watch.run_once() == 1
    assert not called.is_set()


def test_images_from_before_and_after_a_patient_merge_are_one_series(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, done, clock = watch_on(node)
    series, study = generate_uid(), generate_uid()
    send(node, image(series, StudyInstanceUID=study, PatientID="P-1", InstanceNumber=1))
    with node.engine.begin() as connection:
        correct(connection, study, {"PatientID": "4711"}, "merge", datetime.now(UTC))
    send(node, image(series, StudyInstanceUID=study, PatientID="4711", InstanceNumber=2))
    clock.advance(100)
    assert watch.run_once() == 1
    (completed, decision) = done.seen[0]
    assert completed.n_instances == 2
    assert not any("several studies or patients" in reason for reason in decision.reasons)
    assert not node.rows("SELECT has_conflict FROM study")[0]["has_conflict"]


def test_a_third_patient_is_still_another_one(node: Any, image: Any, watch_on: Make) -> None:
    watch, done, clock = watch_on(node)
    series, study = generate_uid(), generate_uid()
    send(node, image(series, StudyInstanceUID=study, PatientID="P-1", InstanceNumber=1))
    with node.engine.begin() as connection:
        correct(connection, study, {"PatientID": "4711"}, "merge", datetime.now(UTC))
    send(node, image(series, StudyInstanceUID=study, PatientID="X", InstanceNumber=2))
    clock.advance(100)
    assert watch.run_once() == 1
    assert any("several studies or patients" in reason for reason in done.seen[0][1].reasons)


def test_images_of_before_a_clock_was_set_back_are_not_taken_for_those_being_sent(
    node: Any, image: Any, watch_on: Make
) -> None:
    watch, _done, clock = watch_on(node)
    series = generate_uid()
    first, second = InMemory(image(series)), InMemory(image(series))
    sent = store_each(node.peer, [first, second])
    assert [next(sent)[1], next(sent)[1]] == [0, 0]  # and their association stays open
    try:
        # The first came before the clock was set back.
        with node.engine.begin() as connection:
            connection.execute(
                sa.update(Instance)
                .where(Instance.sop_instance_uid == first.sop_instance_uid)
                .values(received_at=datetime.now(UTC) + timedelta(hours=1))
            )
        clock.stand_still()
        assert watch.run_once() == 0
        clock.advance(node.settings.quiet_seconds + node.settings.open_association_seconds)
        assert watch.run_once() == 1
    finally:
        sent.close()
