"""Settings: sources in their order, and one line that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import SettingsError
from deploy.settings import describe, load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREREAD_SHARED_DATA", raising=False)


def write(text: str, name: str = "preread.toml") -> Path:
    path = Path(name).absolute()
    path.write_text(text)
    return path


def test_defaults_work_without_any_setting() -> None:
    settings = load()
    assert (settings.scp.ae_title, settings.scp.port) == ("PREREAD", 11112)
    assert settings.db_url == f"sqlite:///{Path('preread-data').absolute()}/preread.sqlite"


def test_file_then_environment_then_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write('data_dir = "/a"\n[scp]\nport = 1\nae_title = "FILE"\nquiet_seconds = 9\n')
    monkeypatch.setenv("PREREAD_SCP__PORT", "2")
    monkeypatch.setenv("PREREAD_SCP__AE_TITLE", "ENV")
    monkeypatch.setenv("PREREAD_DATA_DIR", "/b")

    settings = load(path, {"scp": {"port": 3}})

    assert settings.scp.port == 3
    assert settings.scp.ae_title == "ENV"
    assert settings.scp.quiet_seconds == 9
    assert settings.data_dir == Path("/b")


def test_the_file_of_the_folder_is_taken_and_another_can_be_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("[scp]\nport = 1\n")
    other = write("[scp]\nport = 2\n", "other.toml")
    assert load().scp.port == 1
    monkeypatch.setenv("PREREAD_CONFIG", str(other))
    assert load().scp.port == 2


def test_the_example_of_the_design() -> None:
    settings = load(
        write(
            """
            data_dir = "/var/lib/preread"
            [scp]
            ae_title = "PREREAD"
            port = 11112
            quiet_seconds = 5
            [db]
            url = "postgresql+psycopg://preread@db/preread"
            [[destination]]
            name = "pacs"
            ae_title = "ORTHANC"
            host = "127.0.0.1"
            port = 4242
            objects = ["sr", "sc"]
            proof = "find"
            """
        )
    )
    assert settings.destination[0].objects == ("sr", "sc")
    assert settings.db_url == "postgresql+psycopg://preread@db/preread"


def test_who_may_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREREAD_SCP__ADDRESS_ALLOW", '["192.0.2.0/24"]')
    path = write(
        """
        [scp]
        access = "closed"
        calling_ae_allow = ["CT*", " MR1 "]
        called_ae_allow = ["PREREAD"]
        ae_limits = { "CT*" = 4, "*" = 20 }
        """
    )
    scp = load(path).scp
    assert scp.calling_ae_allow == ("CT*", "MR1")
    assert scp.address_allow == ("192.0.2.0/24",)
    assert list(scp.ae_limits.items()) == [("CT*", 4), ("*", 20)]


@pytest.mark.parametrize(
    ("text", "named", "hint"),
    [
        ("[scp]\nprot = 1\n", "scp.prot", "did you mean port?"),
        ("[scpp]\nport = 1\n", "scpp", "did you mean scp?"),
        (
            '[[model]]\nname = "m"\nsuitability = { contrst = "with" }\n',
            "[[model]] m: suitability.contrst",
            "did you mean contrast?",
        ),
        ('[[destination]]\nnmae = "x"\n', "[[destination]] number 1: nmae", "did you mean name?"),
        ("[scp]\nport = 99999\n", "scp.port", "65535"),
        (
            "[inference]\nsilence_seconds = 14.9\n",
            "inference.silence_seconds",
            "every 5 s that it lives, and one whose word comes late must not be taken for dead; "
            "set 15 or more",
        ),
        ("[inference]\nsilence_seconds = nan\n", "inference.silence_seconds", "set 15 or more"),
        ('[scp]\nae_title = "FAR TOO LONG A TITLE"\n', "scp.ae_title", "16"),
        ("[[destination]]\n", "[[destination]] number 1: name", "missing"),
        (
            '[[destination]]\nname = "p"\n',
            "[[destination]] p",
            "set one of ae_title, host and port",
        ),
        ('[[destination]]\nname = "p"\nhost = "h"\n', "[[destination]] p", "belong together"),
        (
            '[[destination]]\nname = "p"\nurl = "https://p"\nproof = "commit"\n',
            "[[destination]] p",
            'set proof = "find"',
        ),
        (
            '[[model]]\nname = "m"\npath = "/a"\n[[model]]\nname = "m"\npath = "/b"\n',
            "model",
            "m is named twice",
        ),
        (
            '[[model]]\nname = "a"\n[[model]]\nname = "pneumothorax"\nengine = "foo"\n',
            "setting [[model]] pneumothorax: engine (preread.toml)",
            "'openvino'",
        ),
        (
            '[[rule]]\nname = "emergency first"\n',
            "setting [[rule]] emergency first (preread.toml): say in when",
            "calling_ae",
        ),
        (
            '[[rule]]\nname = "r"\npriority = "stat"\ncalling_ae = ["A", ""]\n',
            "[[rule]] r: calling_ae.1",
            "cannot be empty",
        ),
        ("[scp\n", "not valid TOML", "preread.toml"),
        ('[scp]\naccess = "closed"\n', "scp.access", "address_allow empty: nobody could come in"),
        ('[scp]\naddress_allow = ["10.0.0.1/8"]\n', "scp.address_allow.0", "write 10.0.0.0/8"),
        ('[scp]\nae_limits = { "CT*" = 0 }\n', "scp.ae_limits.CT*", "greater than 0"),
        ('[scp]\ntls_key = "/k"\n', "scp.tls_key", "tls_certificate"),
        ("[scp]\nacceptors = 3\n", "scp.acceptors", "db.url to PostgreSQL"),
        (
            '[[rule]]\nname = "r"\nmodel = "m"\nwhen = { Modallity = "CT" }\n',
            "Modallity",
            "Modality",
        ),
    ],
)
def test_a_wrong_file_names_setting_and_way_out(text: str, named: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(text))
    assert named in str(caught.value)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("PREREAD_SCP__PORT", "many", "PREREAD_SCP__PORT"),
        ("PREREAD_SPC__PORT", "1", "did you mean PREREAD_SCP?"),
        ("PREREAD_SCP__PROT", "1", "PREREAD_SCP__PROT"),
        ("PREREAD_CONFIG", "/nowhere.toml", "/nowhere.toml does not exist"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=named.replace("?", r"\?")):
        load()


def test_threads_beyond_any_machine_are_refused() -> None:
    """A library that is asked for a hundred thousand takes the worker down with it."""
    path = write("[inference]\nthreads = 513\n")
    with pytest.raises(SettingsError, match=r"inference\.threads.*less than or equal to 512"):
        load(path)
    assert load(write("[inference]\nthreads = 512\n")).inference.threads == 512


def test_every_setting_has_a_description() -> None:
    described = list(describe())
    assert len(described) > 40
    for name, _default, description in described:
        assert description.endswith("."), name
