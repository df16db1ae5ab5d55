"""Settings of several entries are told by the name of the entry."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.errors import SettingsError
from deploy.setting_places import place_of
from deploy.settings import load

GIVEN: dict[str, Any] = {
    "model": [{"name": "a"}, {"name": "mine", "label": [{}, {"name": "finding"}]}, {"name": 3}],
    "scp": {"address_allow": ["x"]},
}


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (("scp", "port"), "scp.port"),
        (("scp", "address_allow", 0), "scp.address_allow.0"),
        (("model",), "model"),
        (("model", 1), "[[model]] mine"),
        (("model", 1, "suitability", "max_gap"), "[[model]] mine: suitability.max_gap"),
        (("model", 1, "label", 1, "thresholds", "low"),
         "[[model]] mine: label finding: thresholds.low"),
        (("model", 1, "label", 0, "name"), "[[model]] mine: label number 1: name"),
        (("model", 2, "name"), "[[model]] number 3: name"),
        (("model", 7, "path"), "[[model]] number 8: path"),
        (("rule", 0, "model"), "[[rule]] number 1: model"),
    ],
)  # fmt: skip
def test_the_entry_is_named(location: tuple[int | str, ...], said: str) -> None:
    assert place_of(location, GIVEN) == said


def test_entries_of_a_variable_are_not_named_after_those_of_the_file(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "preread.toml"
    path.write_text('[[model]]\nname = "a"\n')
    monkeypatch.setenv("PREREAD_MODEL", '[{"name": "b", "engine": "foo"}]')
    with pytest.raises(SettingsError, match=r"\[\[model\]\] number 1: engine"):
        load(path)
