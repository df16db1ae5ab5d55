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

from scp import examine, rules_in_force
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


@pytest.mark.parametrize(
    ("condition", "found", "reason"),
    [
        (["CR", "DX"], ["CT"], "Modality is 'CT', asked for CR, DX"),
        ("CR", [], "Modality is absent, asked for CR"),
        (["AP*", ""], ["LL"], "Modality is 'LL', asked for AP*, no value"),
        ({"min": 512, "max": 1024}, ["256"],
         "Modality is '256', asked for at least 512 and at most 1024"),
        ({"not": ["A", "B"]}, ["X", "B"], r"Modality is 'X\\B', asked for none of A, B"),
        ({"words": "head"}, ["KNEE"], "Modality is 'KNEE', asked for a word of head"),
        ({"absent": True}, ["x"], "Modality is 'x', asked for no value"),
        ({"absent": False}, [], "Modality is absent, asked for any value"),
        ([f"word{number}" for number in range(40)], ["x"], "Modality is 'x', asked for "
         "word0, word1, word2, word3, word4, word5, word6, word7, word8, w..."),
    ],
)  # fmt: skip
def test_a_reason_names_what_was_found_and_what_was_asked_for(
    condition: Any, found: list[str], reason: str
) -> None:
    rule = RuleSettings(name="r", model="m", when={"Modality": condition})
    assert decide({"Modality": found}, [rule]).reasons == (f"r: no, {reason}",)


def test_explanations_hold_no_patient() -> None:
    rule = RuleSettings(name="vip", model="m", when={"PatientName": "NOBODY*"})
    (reason,) = decide({"PatientName": ["PHANTOM^HEAD"]}, [rule]).reasons
    assert reason == "vip: no, PatientName does not match"
    either = RuleSettings(name="vip", model="m", when={"StudyID|OtherPatientIDs": "NOBODY*"})
    (reason,) = decide({"OtherPatientIDs": ["PHANTOM-1"]}, [either]).reasons
    assert reason == "vip: no, StudyID|OtherPatientIDs does not match"


def test_merge_takes_the_most_urgent_route() -> None:
    routine, stat = Route("m", "routine", False, "r"), Route("m", "stat", False, "r")
    merged = merge([Decision((routine,), ("x",)), Decision((stat,), ("x", "y"))])
    assert merged == Decision((stat,), ("x", "y"))
    assert json.loads(merged.to_json())["routes"][0]["priority"] == "stat"


_ROUTES = st.builds(
    Route, st.sampled_from("mn"), st.sampled_from(["stat", "routine"]), st.booleans(),
    st.sampled_from("abc"),
)  # fmt: skip
_DECISIONS = st.builds(
    Decision,
    st.lists(_ROUTES, max_size=2, unique_by=lambda route: route.model).map(tuple),
    st.lists(st.sampled_from("xyz"), max_size=2, unique=True).map(tuple),
)


def outcome(decision: Decision) -> set[tuple[str, str, bool]]:
    assert len({route.model for route in decision.routes}) == len(decision.routes)
    return {(route.model, route.priority, route.shadow) for route in decision.routes}


@given(st.lists(_DECISIONS, max_size=5), st.randoms(use_true_random=False))
def test_what_is_merged_does_not_depend_on_which_header_came_first(
    decisions: list[Decision], random: Any
) -> None:
    shuffled = random.sample(decisions, len(decisions))
    cut = random.randint(0, len(decisions))
    merged = merge(decisions)
    for other in (
        merge(shuffled),
        merge([*decisions, *shuffled]),
        merge([merge(decisions[:cut]), merge(decisions[cut:])]),
    ):
        assert outcome(other) == outcome(merged)
        assert set(other.reasons) == set(merged.reasons)
    assert merge([merged]) == merge([merged, merged]) == merged
    for model in {route.model for one in decisions for route in one.routes}:
        mine = [route for one in decisions for route in one.routes if route.model == model]
        (route,) = (route for route in merged.routes if route.model == model)
        assert route.shadow is all(one.shadow for one in mine)
        assert (route.priority == "stat") is any(one.priority == "stat" for one in mine)
        named = [one for one in mine if one.rule == route.rule and one.shadow == route.shadow]
        assert named, "the rule that is named says whether it is delivered"


def test_a_trial_beside_a_rule_that_delivers_keeps_nothing_back() -> None:
    trial, real = Route("m", "stat", True, "trial"), Route("m", "routine", False, "real")
    for pair in ((trial, real), (real, trial)):
        merged = merge([Decision((one,), ()) for one in pair])
        assert merged.routes == (Route("m", "stat", False, "real"),)


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
    found = examine(path, BUILTIN)
    assert found.path == path
    assert found.series_instance_uid
    read_by = [(route.model, route.priority) for route in found.decision.routes]
    assert read_by[:1] == ([(model, "routine")] if model else [])


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
        examine(path, BUILTIN)
