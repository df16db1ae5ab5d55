"""Images that came from a ward, and come again from the emergency department."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from in_memory import InMemory
from pydicom.uid import generate_uid
from structlog.testing import capture_logs

from deploy.receiving import enqueue_analyses
from inference.catalogue import open_catalogue
from inference.jobs import JobQueue, prepare
from inference.settings import InferenceSettings
from scp import Peer, SeriesWatch, rules_in_force
from scp.requestor import store_each
from scp.rule_settings import RuleSettings

EMERGENCY = RuleSettings(name="emergency first", priority="stat", calling_ae=("EMERGENCY",))


@pytest.fixture
def complete(node: Any) -> Any:
    """Complete the series that are due; return what is said of analyses."""
    prepare(node.engine)
    queue = JobQueue(node.engine)
    bundles = open_catalogue(InferenceSettings())
    known = (EMERGENCY, *(one for one in rules_in_force(()) if one.model in bundles))
    settings = node.settings.model_copy(update={"quiet_seconds": 0})
    watch = SeriesWatch(node.engine, node.files, settings, known, enqueue_analyses(bundles, queue))

    def run() -> list[str]:
        with capture_logs() as told:
            assert watch.run_once() == 1
        return [one["event"] for one in told if one["event"].startswith("analysis.")]

    yield run
    queue.close()


def send(node: Any, calling: str, *images: Any) -> None:
    peer = Peer("127.0.0.1", node.server.port, node.settings.ae_title, calling, timeout=60)
    assert [answer for _, answer in store_each(peer, [InMemory(one) for one in images])] == [
        0
    ] * len(images)
    node.wait_until_all_ended()


def test_what_emergency_sends_once_more_is_raised(
    node: Any, image: Any, complete: Callable[[], list[str]]
) -> None:
    series = generate_uid()
    images = [image(series, InstanceNumber=number) for number in range(3)]
    send(node, "WARD", *images)
    assert complete() == ["analysis.requested"]
    # The ward repeats itself, and nothing is to be done.
    send(node, "WARD", *images)
    assert complete() == ["analysis.known"]
    send(node, "EMERGENCY", images[1])
    assert complete() == ["analysis.known", "analysis.raised"]
    send(node, "WARD", *images)
    assert complete() == ["analysis.known"]

    (row,) = node.rows("SELECT priority, state FROM analysis")
    assert (row["priority"], row["state"]) == ("stat", "pending")
    (job,) = node.rows("SELECT queue_name, status, priority FROM workflow_status")
    assert tuple(job.values()) == ("stat", "ENQUEUED", 1)
    # Whose images they are is known as before: results that go to the sender go to the ward.
    with node.engine.connect() as connection:
        first = connection.execute(
            sa.text(
                "SELECT DISTINCT calling_ae FROM instance JOIN association "
                "ON association.id = instance.association_id"
            )
        ).scalars()
        assert list(first) == ["WARD"]
