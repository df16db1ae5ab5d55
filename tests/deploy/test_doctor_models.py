"""What the doctor says of a model whose engine has no package here."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy.check import Verdict
from deploy.doctor_models import examine_model, examine_routed
from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.extras import installed_by
from inference.settings import InferenceSettings, ModelSettings


def _model(engine: str) -> Bundle:
    asked = ModelSettings.model_validate({"name": "pneumothorax", "engine": engine})
    return open_catalogue(InferenceSettings(), [asked])["pneumothorax"]


def test_an_engine_that_has_its_package_is_good() -> None:
    assert examine_model(_model("auto")).verdict is Verdict.GOOD


@pytest.mark.parametrize("engine", ["openvino", "tensorrt"])
def test_an_engine_that_lacks_its_package_is_bad_and_says_how_to_go_on(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = find_spec
    monkeypatch.setattr(
        "inference.engines.optional.find_spec",
        lambda name: None if name == engine else there(name),
    )
    check = examine_model(_model(engine))
    assert check.verdict is Verdict.BAD
    assert f'{installed_by(engine)}; with engine = "auto" under its [[model]]' in check.message


def test_a_model_of_the_settings_that_no_rule_names_is_a_warning() -> None:
    shipped = _model("auto")
    mine = replace(shipped, name="mine", path=Path("/srv/mine"))
    (check,) = examine_routed({"pneumothorax": shipped, "mine": mine}, {"other"})
    assert check.verdict is Verdict.WARNING
    assert check.message.startswith("mine reads nothing, for no rule names it")
    assert list(examine_routed({"mine": mine}, {"mine"})) == []
