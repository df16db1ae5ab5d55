"""Rules by the AE titles of an association: what comes from the emergency department is STAT."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydicom.uid import generate_uid

from db.completeness import Sender
from scp import SeriesWatch, rules_in_force
from scp.rule_settings import RuleSettings
from scp.rules import decide

HEAD = {
    "Modality": ["CT"],
    "BodyPartExamined": ["HEAD"],
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "SOPClassUID": ["1.2.840.10008.5.1.4.1.1.2"],
}
EMERGENCY = Sender("EMERGENCY", "PREREAD")
WARD = Sender("WARD", "PREREAD")


def urgent(**fields: Any) -> RuleSettings:
    return RuleSettings.model_validate(
        {"name": "urgent", "priority": "stat", "calling_ae": "EMERGENCY", **fields}
    )


def asked(rule: RuleSettings, *senders: Sender, **facts: list[str]) -> dict[str, str]:
    decision = decide({**HEAD, **facts}, rules_in_force([rule]), (), senders)
    return {route.model: route.priority for route in decision.routes}


@pytest.mark.parametrize(
    ("titles", "holds"),
    [
        ("EMERGENCY", True), (["ICU", "EMERGENCY"], True), ("EMER*", True), (" EMERGENCY ", True),
        ("EMERGENC", False), ("emergency", False), (["ICU"], False),
    ],
)  # fmt: skip
def test_calling_ae_is_one_or_a_list(titles: Any, holds: bool) -> None:
    found = asked(urgent(calling_ae=titles), EMERGENCY)
    assert set(found.values()) == {"stat" if holds else "routine"}
    assert "hemorrhage" in found


def test_one_of_several_senders_is_enough() -> None:
    assert set(asked(urgent(), WARD, EMERGENCY).values()) == {"stat"}
    assert set(asked(urgent(), WARD).values()) == {"routine"}
    assert set(asked(urgent()).values()) == {"routine"}, "nobody knows who sent it"


def test_calling_and_called_are_of_one_association() -> None:
    rule = urgent(called_ae=["PREREAD_STAT"])
    assert set(asked(rule, Sender("EMERGENCY", "PREREAD_STAT")).values()) == {"stat"}
    others = (EMERGENCY, Sender("WARD", "PREREAD_STAT"))
    assert set(asked(rule, *others).values()) == {"routine"}


def test_called_ae_alone() -> None:
    rule = RuleSettings(name="u", priority="stat", called_ae=("STAT",))
    assert set(asked(rule, Sender("ANY", "STAT")).values()) == {"stat"}
    assert set(asked(rule, EMERGENCY).values()) == {"routine"}


def test_a_rule_for_a_model_may_ask_for_the_sender_too() -> None:
    rule = urgent(model="mine", when={"Modality": "CT"})
    assert asked(rule, EMERGENCY)["mine"] == "stat"
    assert asked(rule, EMERGENCY)["hemorrhage"] == "routine", "only what this rule routes"
    assert "mine" not in asked(rule, WARD)


def test_it_goes_before_what_the_header_asks_and_behind_what_a_rule_says() -> None:
    trial = urgent(name="trial", priority="routine")
    assert set(asked(trial, EMERGENCY, StudyPriorityID=["STAT"]).values()) == {"routine"}
    own = RuleSettings(name="own", model="m", priority="routine", when={"Modality": "CT"})
    decision = decide(HEAD, (own, urgent()), (), [EMERGENCY])
    assert [route.priority for route in decision.routes] == ["routine"]


def test_the_first_rule_without_a_model_decides() -> None:
    rules = (urgent(), urgent(name="later", priority="routine"), *rules_in_force(()))
    decision = decide(HEAD, rules, (), [EMERGENCY])
    assert {route.priority for route in decision.routes} == {"stat"}
    assert decision.reasons[:2] == (
        "urgent: what other rules route is stat",
        "later: what other rules route is stat, by urgent",
    )
    no, *_ = decide(HEAD, rules, (), [WARD]).reasons
    assert no == "urgent: no, calling AE title WARD does not match EMERGENCY"
    no, *_ = decide(HEAD, rules).reasons
    assert no == "urgent: no, it is not known who sent it, asked for calling AE title EMERGENCY"


@pytest.mark.parametrize(
    ("senders", "fields", "reason"),
    [
        ([Sender("STORESCU", "P")], {"calling_ae": ["CT*", "ER_*"]},
         "calling AE title STORESCU matches none of CT*, ER_*"),
        ([Sender("B", "P"), Sender("A", "P")], {"calling_ae": ["CT*", "ER_*"]},
         "calling AE titles A, B match none of CT*, ER_*"),
        ([Sender("B", "P"), Sender("A", "P")], {"calling_ae": "CT*"},
         "calling AE titles A, B do not match CT*"),
        ([Sender("CT1", "P")], {"calling_ae": "CT*", "called_ae": ["STAT", "ER"]},
         "called AE title P matches none of STAT, ER"),
        ([Sender("US1", "P")], {"calling_ae": "CT*", "called_ae": "STAT"},
         "calling AE title US1 does not match CT* and called AE title P does not match STAT"),
        ([Sender("CT1", "P"), Sender("US1", "STAT")], {"calling_ae": "CT*", "called_ae": "STAT"},
         "no one association fits both calling AE title CT* and called AE title STAT: "
         "CT1 called P, US1 called STAT"),
        ([Sender("", "P")], {"calling_ae": "CT*"},
         "the calling AE title is not known, asked for CT*"),
        ([], {"calling_ae": "CT*", "called_ae": "STAT"},
         "it is not known who sent it, asked for calling AE title CT* and called AE title STAT"),
    ],
)  # fmt: skip
def test_who_sent_it_and_who_was_asked_for_is_said(
    senders: list[Sender], fields: dict[str, Any], reason: str
) -> None:
    (said,) = decide(HEAD, [urgent(**fields)], (), senders).reasons
    assert said == f"urgent: no, {reason}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"calling_ae": ()}, "urgent: say in when, calling_ae or called_ae what it is for"),
        ({"priority": None}, "urgent: name the model that reads the series, or set priority"),
        ({"shadow": True}, "without shadow"),
        ({"calling_ae": "A" * 17}, "calling_ae"),
    ],
)
def test_what_says_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        urgent(**fields)


@pytest.mark.peer
def test_what_storescu_sends_as_emergency_is_stat(node: Any, image: Any, tmp_path: Path) -> None:
    program = shutil.which("storescu", path="/usr/bin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("DCMTK is missing")
        pytest.skip("DCMTK is not installed")
    series = {title: generate_uid() for title in ("EMERGENCY", "WARD")}
    for title, uid in series.items():
        path = tmp_path / f"{title}.dcm"
        image(uid).save_as(path, enforce_file_format=True)
        command = [program, "-aet", title, "127.0.0.1", str(node.server.port), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    node.wait_until_all_ended()
    settings = node.settings.model_copy(update={"quiet_seconds": 0})
    watch = SeriesWatch(
        node.engine, node.files, settings, rules_in_force([urgent()]), lambda _c, _s, to: to
    )
    assert watch.run_once() == 2
    rows = node.rows("SELECT series_instance_uid, routing FROM series")
    routings = {row["series_instance_uid"]: json.loads(row["routing"]) for row in rows}
    found = {
        title: {route["priority"] for route in routings[uid]["routes"]}
        for title, uid in series.items()
    }
    assert found == {"EMERGENCY": {"stat"}, "WARD": {"routine"}}
