"""The log: JSON lines, one form for all, and no message of a foreign error in it."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from db.errors import DatabaseError
from deploy.logs import configure, name_worker
from deploy.settings import LogSettings


@pytest.fixture(autouse=True)
def _restore() -> None:
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().err.splitlines()[-1])


def test_events_are_json_with_part_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings(format="json"), "scp")
    structlog.get_logger().info("image.stored", trace="t")
    event = last(capsys)
    assert (event["event"], event["trace"], event["part"]) == ("image.stored", "t", "scp")
    assert str(event["timestamp"]).endswith("Z")


def test_every_line_of_a_worker_names_it_whichever_thread_wrote_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LogSettings(format="json"), "worker-1")
    name_worker("host-cpu-1")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(structlog.get_logger().info, "analysis.started").result()
    event = last(capsys)
    assert (event["part"], event["worker"]) == ("worker-1", "host-cpu-1")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(logging.getLogger("library").warning, "odd").result()
    assert last(capsys)["worker"] == "host-cpu-1"
    structlog.get_logger().info("worker.swept", worker="host-cpu-0")
    assert last(capsys)["worker"] == "host-cpu-0", "an event that speaks of another one keeps it"
    configure(LogSettings(format="json"), "scp")
    structlog.get_logger().info("image.stored")
    assert "worker" not in last(capsys)


def test_the_message_of_a_foreign_error_stays_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings(format="json"), "scp")
    try:
        raise ValueError("could not convert 'DOE^JANE' to float")
    except ValueError:
        logging.getLogger("anything").exception("it failed")
    event = last(capsys)
    assert "DOE" not in json.dumps(event)
    assert event["error"] == "ValueError"
    assert event["frames"]


def test_the_message_of_our_own_error_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings(format="json"), "scp")
    try:
        raise DatabaseError("data_dir /x cannot be prepared")
    except DatabaseError:
        structlog.get_logger().exception("node.failed")
    assert last(capsys)["error"] == "data_dir /x cannot be prepared"


def test_what_libraries_quote_of_images_stays_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings(format="json"), "scp")
    logging.getLogger("pydicom").warning("Invalid value for VR IS: 'SECRETNAME'")
    warnings.warn("Invalid value for VR IS: 'SECRETNAME'", UserWarning, stacklevel=1)
    logging.getLogger("dbos").warning("a job waits")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["a job waits"]


def test_lines_of_many_threads_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        configure(LogSettings(format="json"), "scp")

        def log(thread: int) -> None:
            for number in range(200):
                structlog.get_logger().info("event", thread=thread, number=number, text="x" * 300)
                logging.getLogger("library").warning("another %s", thread)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(log, range(8)))
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(events) == 2 * 8 * 200
    ours = {(one["thread"], one["number"]) for one in events if one["event"] == "event"}
    assert len(ours) == 8 * 200


def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        configure(LogSettings(format="json"), "scp")
        structlog.get_logger().error("disk full")
        with suppress(OSError):  # what it could not write is tried once more
            full.close()
        structlog.get_logger().error("closed")
