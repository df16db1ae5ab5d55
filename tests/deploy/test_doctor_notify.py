"""What `preread doctor` says of those who are to be told of findings."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from deploy.check import Verdict
from deploy.doctor_notify import examine_notify
from deploy.settings import load


def found(**target: Any) -> tuple[Verdict, str]:
    (check,) = examine_notify(load(flags={"notify": [{"name": "ris", **target}]}))
    return check.verdict, check.message


def test_who_listens_can_be_reached_and_gets_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for target in (
            {"kind": "hl7", "host": "127.0.0.1", "port": port},
            {"kind": "webhook", "url": f"http://127.0.0.1:{port}/found"},
        ):
            verdict, message = found(**target)
            assert verdict is Verdict.GOOD
            assert "preread notifications test ris" in message
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                assert connection.recv(1) == b""


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens to nobody
        port = taken.getsockname()[1]
        verdict, message = found(kind="webhook", url=f"http://127.0.0.1:{port}/")
    assert verdict is Verdict.BAD
    assert f"ris: 127.0.0.1:{port} cannot be reached: Connection refused" in message


def test_files_that_are_away_or_empty(tmp_path: Path) -> None:
    token = tmp_path / "token"
    target = {"kind": "webhook", "url": "https://127.0.0.1/", "token_file": str(token)}
    assert found(**target) == (
        Verdict.BAD,
        f"ris: token_file {token} cannot be read: No such file or directory",
    )
    token.write_text("\n")
    assert found(**target) == (Verdict.BAD, f"ris: token_file {token} is empty")
