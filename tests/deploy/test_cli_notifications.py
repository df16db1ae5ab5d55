"""``preread notifications``: the ledger, a retry, and a test message to a real receiver."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from one_series import insert_analysis, insert_series
from receivers import acknowledgment, fields, hl7_receiver, web_receiver
from typer.testing import CliRunner

from db import create_engine
from db.migrate import upgrade
from db.schema import Notification
from deploy.cli import app
from deploy.errors import DeployError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what calls the command over a ledger of two, with targets on the given ports."""
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    upgrade(engine)
    with engine.begin() as connection:
        insert_series(connection, NOW)
        insert_analysis(connection, NOW)
        for target, state in (("ris", "dead"), ("pager", "sent")):
            connection.execute(
                sa.insert(Notification).values(
                    analysis_id="a", target=target, state=state, next_attempt_at=NOW,
                    created_at=NOW, last_status="AR" if state == "dead" else "204", n_attempts=3,
                )
            )  # fmt: skip
    engine.dispose()

    def call(*arguments: str, hl7: int = 1, web: int = 1) -> str:
        config = tmp_path / "preread.toml"
        config.write_text(
            f'data_dir = "{tmp_path}"\n'
            f'[[notify]]\nname = "ris"\nkind = "hl7"\nhost = "127.0.0.1"\nport = {hl7}\n'
            f'[[notify]]\nname = "pager"\nkind = "webhook"\nurl = "http://127.0.0.1:{web}/"\n'
        )
        result = CliRunner().invoke(
            app, ["notifications", arguments[0], "--config", str(config), *arguments[1:]]
        )
        if isinstance(result.exception, DeployError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return call


def test_list_and_retry(run: Run) -> None:
    assert "ris" in run("list")
    assert "pager" not in run("list", "--state", "dead")
    assert "pending again" in run("retry", "1")
    assert "no notifications" in run("list", "--state", "dead")
    with pytest.raises(DeployError, match="no dead letter 2"):
        run("retry", "2")


def test_a_test_message_says_that_it_is_one(run: Run) -> None:
    with hl7_receiver() as receiver:
        assert "accepted" in run("test", "ris", hl7=receiver.port)
    (header,) = fields(receiver.received[0], "MSH")
    assert header[11] == "T"
    with web_receiver() as web:
        run("test", "pager", web=web.port)
    assert b'"event": "test"' in web.posts[0].body


def test_a_test_that_fails_says_why(run: Run) -> None:
    with pytest.raises(DeployError, match="there are: ris, pager"):
        run("test", "nobody")
    with pytest.raises(DeployError, match="cannot be reached"):
        run("test", "ris")
    refuse = lambda message: acknowledgment(message, "AR", "no test please")  # noqa: E731
    refused = pytest.raises(DeployError, match="no test please")
    with hl7_receiver(answers=[refuse]) as receiver, refused:
        run("test", "ris", hl7=receiver.port)
