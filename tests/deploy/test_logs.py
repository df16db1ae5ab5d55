"""The log: JSON lines, one form for all, and no message of a foreign error in it."""

from __future__ import annotations

import json
import logging
import warnings

import pytest
import structlog

from db.errors import DatabaseError
from deploy.logs import configure
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
