"""``[[notify]]``: off by default, and one line that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import SettingsError
from deploy.settings import load

HL7 = '[[notify]]\nname = "ris"\nkind = "hl7"\nhost = "h"\nport = 2575\n'
WEB = '[[notify]]\nname = "web"\nkind = "webhook"\nurl = "https://h/x"\n'


def test_nobody_is_told_by_default(tmp_path: Path) -> None:
    path = tmp_path / "preread.toml"
    path.write_text("")
    assert load(path).notify == ()


def test_what_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "preread.toml"
    path.write_text(
        f'{HL7}encoding = "8859/1"\n[notify.when]\nlabels = ["pneumo*"]\nmin_probability = 0.5\n'
        f'states = ["done", "failed"]\nstat_only = true\n{WEB}'
    )
    ris, web = load(path).notify
    assert ris.when.labels == ("pneumo*",)
    assert (web.when.presence, web.when.states) == (("Present",), ("done",))
    assert not web.include_patient


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (HL7 + "prot = 1\n", "[[notify]] ris: prot"),
        (HL7 + '[notify.when]\nlabel = ["a"]\n', "did you mean labels"),
        (HL7 + "[notify.when]\npresence = []\n", "[[notify]] ris: when.presence"),
        (HL7.replace("port = 2575\n", ""), "hl7 needs host and port"),
        (HL7 + 'url = "http://h"\n', "url has no effect"),
        (HL7 + "include_patient = true\n", "include_patient has no effect"),
        (HL7 + 'sending_facility = "A|B"\n', "sending_facility"),
        (HL7 + HL7, "ris is named twice"),
        (WEB + "port = 1\n", "port has no effect"),
        (WEB.replace('url = "https://h/x"\n', ""), "a webhook needs a url"),
        (WEB.replace("https://h", "ftp://h"), "[[notify]] web: url"),
        (WEB.replace("https://h", "https://u:p@h"), "token_file"),
        (WEB.replace("https://h", "https://h:99999"), "port"),
        (WEB.replace("https://h/x", "https://h/\\r\\nX: y"), "[[notify]] web: url"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "preread.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load(path)
    assert named in str(refused.value)
    assert "u:p@" not in str(refused.value)
