"""Routing rules: conditions, built-in rules, what is never read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydicom.data import get_testdata_file

from scp import explain, rules_in_force
from scp.conditions import unmet
from scp.errors import Part10Error
from scp.facts import read_facts
from scp.rule_settings import RuleSettings
from scp.rules import BUILTIN_RULES, Decision, Route, decide, keywords_needed, merge

# Those of what ships and of `preread models add`; each rule of a model of one's own has its test.
BUILTIN = tuple(rule for rule in rules_in_force(()) if not rule.model.endswith("-own"))
CHEST = {
    "Modality": ["DX"],
    "BodyPartExamined": ["CHEST"],
    "ViewPosition": ["PA"],
    "SOPClassUID": ["1.2.840.10008.5.1.4.1.1.1.1"],
}
# The rules of the second are in force in a node that has a bundle of that name.
CHEST_MODELS = ["pneumothorax", "chest-findings"]
HEAD = {
    "Modality": ["CT"],
    "BodyPartExamined": ["HEAD"],
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "SOPClassUID": ["1.2.840.10008.5.1.4.1.1.2"],
}


def models(facts: dict[str, list[str]]) -> list[str]:
    return [route.model for route in decide(facts, BUILTIN).routes]


def changed(facts: dict[str, list[str]], **changes: list[str]) -> dict[str, list[str]]:
    return {**facts, **changes}


def test_builtin_rules() -> None:
    assert models(CHEST) == CHEST_MODELS
    assert models(HEAD) == ["hemorrhage"]
    assert models(changed(CHEST, ViewPosition=[])) == CHEST_MODELS
    assert models(changed(CHEST, Modality=["CR"], ViewPosition=["AP"])) == CHEST_MODELS
    assert models(changed(HEAD, BodyPartExamined=["Brain"])) == ["hemorrhage"]
    described = changed(CHEST, BodyPartExamined=[], StudyDescription=["XR Chest 2 views"])
    assert models(described) == CHEST_MODELS
    described = changed(HEAD, BodyPartExamined=[], ProtocolName=["1.1 Routine Head (Adult)"])
    assert models(described) == ["hemorrhage"]


def test_what_a_site_trained_is_read_like_what_ships() -> None:
    """`preread train` names it so that no rule has to be written."""
    for facts, own in ((CHEST, "pneumothorax-own"), (HEAD, "hemorrhage-own")):
        without = changed(facts, BodyPartExamined=[], StudyDescription=["Chest", "Head"])
        for told in (facts, without):
            found = {route.model for route in decide(told, rules_in_force(())).routes}
            assert found - set(models(told)) == {own}


@pytest.mark.parametrize(
    "facts",
    [
        changed(CHEST, ViewPosition=["LATERAL"]),
        changed(CHEST, ViewPosition=["LL"]),
        changed(CHEST, ViewPosition=["RL"]),
        changed(CHEST, ViewPosition=[], PatientOrientation=["A", "F"]),
        changed(CHEST, ViewPosition=[], SeriesDescription=["Chest LAT"]),
        changed(CHEST, BodyPartExamined=["EXTREMITY"]),
        changed(CHEST, BodyPartExamined=[]),
        changed(CHEST, PresentationIntentType=["FOR PROCESSING"]),
        changed(HEAD, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        changed(HEAD, BodyPartExamined=["CHEST"]),
        changed(HEAD, BodyPartExamined=[], StudyDescription=["Forehead"]),
        changed(HEAD, SOPClassUID=["1.2.840.10008.5.1.4.1.1.7"]),
        changed(HEAD, Modality=["MR"]),
        {},
    ],
)
def test_parked(facts: dict[str, list[str]]) -> None:
    decision = decide(facts, BUILTIN)
    assert decision.routes == ()
    assert len(decision.reasons) == len(BUILTIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"Manufacturer": ["Preread"]},
        {"QualityControlImage": ["YES"]},
        {"QualityControlSubject": ["YES"]},
        {"SOPClassUID": ["1.2.840.10008.5.1.4.1.1.88.34"]},
        {"SOPClassUID": ["1.2.840.10008.5.1.4.1.1.66.4"]},
        *({"Modality": [name]} for name in ("SR", "SEG", "KO", "PR", "OT", "DOC")),
    ],
)
def test_never_read_whatever_the_rules(changes: dict[str, list[str]]) -> None:
    everything = RuleSettings(name="all", model="m", when={"Modality": "*"})
    decision = decide(changed(CHEST, **changes), [everything, *BUILTIN])
    assert decision.routes == ()
    assert decision.reasons[0].startswith("never read")


def test_a_phantom_by_name_is_read() -> None:
    assert models(changed(HEAD, PatientID=["PHANTOM"], StudyDescription=["PHANTOM"]))


def test_priority_from_the_request_and_from_the_rule() -> None:
    for keyword in ("RequestedProcedurePriority", "StudyPriorityID"):
        assert decide(changed(HEAD, **{keyword: ["STAT"]}), BUILTIN).routes[0].priority == "stat"
        assert decide(changed(HEAD, **{keyword: ["LOW"]}), BUILTIN).routes[0].priority == "routine"
    stat = RuleSettings(name="s", model="m", priority="stat", when={"Modality": "CT"})
    assert decide(HEAD, [stat]).routes == (Route("m", "stat", False, "s"),)


def test_contrast_is_noted() -> None:
    reasons = decide(changed(HEAD, ContrastBolusAgent=["IOHEXOL"]), BUILTIN).reasons
    assert reasons[-1].startswith("note: a contrast agent")


def test_configured_rules_come_first_and_replace_by_name() -> None:
    mine = RuleSettings(name="head-ct", model="mine", shadow=True, when={"Modality": "CT"})
    rules = rules_in_force([mine])
    assert len(rules) == len(BUILTIN_RULES)
    assert decide(HEAD, rules).routes[0] == Route("mine", "routine", True, "head-ct")
    assert "hemorrhage" not in {route.model for route in decide(HEAD, rules).routes}
    off = RuleSettings(name="head-ct", model="x", enabled=False, when={"Modality": "CT"})
    left = {route.model for route in decide(HEAD, rules_in_force([off])).routes}
    assert left == {"hemorrhage-own"}
    assert rules_in_force([mine], builtin=False) == (mine,)


def test_one_route_for_a_model() -> None:
    rules = [RuleSettings(name=n, model="m", when={"Modality": "CT"}) for n in ("a", "b")]
    decision = decide(HEAD, rules)
    assert [route.rule for route in decision.routes] == ["a"]
    assert decision.reasons[1] == "b: m is routed by a"


def test_explanations_hold_no_patient() -> None:
    rule = RuleSettings(name="vip", model="m", when={"PatientName": "NOBODY*"})
    (reason,) = decide({"PatientName": ["PHANTOM^HEAD"]}, [rule]).reasons
    assert reason == "vip: no, PatientName does not match"


def test_merge_takes_the_most_urgent_route() -> None:
    routine, stat = Route("m", "routine", False, "r"), Route("m", "stat", False, "r")
    merged = merge([Decision((routine,), ("x",)), Decision((stat,), ("x", "y"))])
    assert merged == Decision((stat,), ("x", "y"))
    assert json.loads(merged.to_json())["routes"][0]["priority"] == "stat"


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        ("CT", ["ct"], True),
        ("C?", ["CT"], True),
        (["MR", "CT"], ["CT"], True),
        ("", [], True),
        ("", ["x"], False),
        ("*", [], False),
        (512, ["512"], True),
        (512, ["five"], False),
        ({"min": 5}, ["5"], True),
        ({"min": 5, "max": 6}, ["7"], False),
        ({"max": 6}, [], False),
        ({"absent": True}, [], True),
        ({"absent": True}, [""], True),
        ({"absent": True}, ["x"], False),
        ({"absent": False}, ["x"], True),
        ({"absent": False}, [], False),
        ({"not": ["A", "B"]}, ["C"], True),
        ({"not": ["A", "B"]}, ["C", "B"], False),
        ({"not": "A"}, [], True),
        ({"words": ["head"]}, ["CT_Head w/o"], True),
        ({"words": "head"}, ["FOREHEAD"], False),
    ],
)
def test_conditions(condition: Any, values: list[str], holds: bool) -> None:
    rule = RuleSettings(name="r", model="m", when={"Modality": condition})
    assert (unmet({"Modality": values}, rule.when) is None) == holds


def test_one_of_several_keywords() -> None:
    when = {"StudyDescription|SeriesDescription": "*HEAD*"}
    assert unmet({"SeriesDescription": ["my head"]}, when) is None
    assert unmet({"StudyDescription": ["knee"]}, when) is not None


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"Modalty": "CT"}, "did you mean Modality"),
        ({"AnatomicRegionSequence.CodeMeening": "x"}, "did you mean CodeMeaning"),
        ({"SourceApplicationEntityTitle": "ER*"}, "when never sees it; for AE titles there"),
        ({"Modality": {"minimum": 1}}, "'minimum' is not one of"),
        ({"Rows": {"min": "many"}}, "min must be a number"),
        ({"Modality": {"absent": "yes"}}, "absent must be true or false"),
    ],
)
def test_wrong_rules_are_errors(when: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RuleSettings(name="r", model="m", when=when)


@given(st.dictionaries(st.sampled_from(sorted(keywords_needed(BUILTIN))),
                       st.lists(st.text(max_size=8), max_size=3)))  # fmt: skip
def test_decide_is_total_and_explains(facts: dict[str, list[str]]) -> None:
    decision = decide(facts, BUILTIN)
    assert decision.reasons
    assert json.loads(decision.to_json())["reasons"] == list(decision.reasons)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("RG1_UNCI.dcm", "pneumothorax"), ("RG1_J2KI.dcm", "pneumothorax"),
        ("RG1_J2KR.dcm", "pneumothorax"), ("RG3_UNCI.dcm", None), ("US1_UNCI.dcm", None),
        ("test-SR.dcm", None),
    ],
)  # fmt: skip
def test_real_files(name: str, model: str | None) -> None:
    path = Path(str(get_testdata_file(name)))
    text = explain(path, BUILTIN)
    assert str(path) in text
    assert (f"-> {model} (routine)" if model else "-> parked") in text


@pytest.mark.parametrize(
    ("name", "read_by"),
    [("head_ct_ge/01.dcm", ["hemorrhage"]), ("cxr_siim_format", CHEST_MODELS)],
)
def test_shared_files(name: str, read_by: list[str]) -> None:
    default = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("PREREAD_SHARED_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no shared data in {root}")
    path = root / name
    files = [path] if path.is_file() else sorted(path.glob("*.dcm"))
    for file in files:
        routes = decide(read_facts(file, keywords_needed(BUILTIN)), BUILTIN).routes
        assert [route.model for route in routes] == read_by


def test_values_inside_sequences(image: Any, tmp_path: Path) -> None:
    one = image()
    from pydicom.dataset import Dataset

    region = Dataset()
    region.CodeMeaning = "Head"
    one.AnatomicRegionSequence = [region]
    path = tmp_path / "one.dcm"
    one.save_as(path, enforce_file_format=True)
    facts = read_facts(path, ["AnatomicRegionSequence.CodeMeaning", "ImageType", "Laterality"])
    assert facts["AnatomicRegionSequence.CodeMeaning"] == ("Head",)
    assert facts["ImageType"] == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert facts["Laterality"] == ()


def test_what_is_no_dicom_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.dcm"
    path.write_text("text")
    with pytest.raises(Part10Error, match=r"text\.dcm: not a DICOM file"):
        explain(path, BUILTIN)
