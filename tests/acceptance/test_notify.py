"""A whole node tells of a finding by HL7 and by a webhook, and keeps what a receiver missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from receivers import fields, hl7_receiver, web_receiver
from running import Node, free_port, wait_for

from inference.training.phantoms.files import write_chest
from scp import Peer, send_files

pytestmark = pytest.mark.slow


def send(node: Node, *files: Path) -> None:
    report = send_files(Peer("127.0.0.1", node.port, "PREREAD", "TEST"), files)
    assert report.ok, report


def test_a_positive_is_told_once_and_a_negative_to_nobody(node: Node, tmp_path: Path) -> None:
    port = free_port()
    with web_receiver() as web:
        node.configure(
            f'[[notify]]\nname = "ris"\nkind = "hl7"\nhost = "127.0.0.1"\nport = {port}\n'
            "backoff_first_seconds = 0.2\nbackoff_max_seconds = 0.5\n"
            f'[[notify]]\nname = "web"\nkind = "webhook"\nurl = "http://127.0.0.1:{web.port}/"\n'
            '[notify.when]\nlabels = ["pneumo*"]\n'
        )
        node.start()
        send(node, write_chest(tmp_path / "negative", seed=4))
        send(node, write_chest(tmp_path / "positive", seed=13, pneumothorax=True))
        wait_for(lambda: web.posts, 180, "the webhook")
        said = json.loads(web.posts[0].body)
        assert [(one["label"], one["presence"]) for one in said["findings"]] == [
            ("pneumothorax", "Present")
        ]
        assert "patient" not in said

        tried = "SELECT n_attempts >= 2, state FROM notification WHERE target = 'ris'"
        wait_for(lambda: node.query(tried) == [(1, "pending")], 90, "attempts in vain")
        with hl7_receiver(port) as receiver:
            wait_for(
                lambda: node.query("SELECT DISTINCT state FROM notification") == [("sent",)],
                90,
                "the receiver's acceptance",
            )
        wait_for(
            lambda: node.query("SELECT COUNT(*) FROM analysis WHERE state = 'done'") == [(2,)],
            120,
            "both analyses",
        )
    (message,) = receiver.filed.values()
    assert "36118008^Pneumothorax^SCT" in message.decode()
    ((uid,),) = node.query("SELECT sop_instance_uid FROM v_objects WHERE study_instance_uid = "
                           f"'{said['study_instance_uid']}' AND kind = 'sr'")  # fmt: skip
    assert said["sr_sop_instance_uid"] == uid
    assert uid in [one[5] for one in fields(message, "OBX")]
    assert len(web.posts) == 1
    assert node.query("SELECT COUNT(*) FROM v_notifications") == [(2,)]
    patient = fields(message, "PID")[0][3].split("^")[0]
    assert patient not in node.log.read_text()
    assert node.stop() == 0
