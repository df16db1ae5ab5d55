"""Settings: defaults, then the TOML file, then environment ``PREREAD_*``, then flags."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from db import DbSettings
from inference.settings import InferenceSettings, ModelSettings
from scp.rule_settings import RuleSettings
from scp.settings import AeSettings, DestinationSettings, ScpSettings

from .errors import SettingsError
from .notify.settings import NotifySettings
from .setting_places import place_of

PREFIX = "PREREAD_"
CONFIG_VARIABLE = "PREREAD_CONFIG"
DEFAULT_FILE = Path("preread.toml")
# Set by the node for its parts, and by the tests; no settings.
_OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "PREREAD_PARENT", "PREREAD_SHARED_DATA"})
# More gain nothing on SQLite: its writers queue for one lock, and answers get slower.
_MOST_ON_SQLITE = 2
_MOST_BY_DEFAULT = 8

_N = TypeVar("_N", AeSettings, DestinationSettings, RuleSettings, ModelSettings, NotifySettings)


class LogSettings(BaseModel):
    """What the node says, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is written."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="json for services, console for people; auto: console on a terminal.",
    )


class MetricsSettings(BaseModel):
    """What the node counts, for Prometheus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description=(
            "TCP port on which `preread up` and `preread scp` answer /metrics for Prometheus; 0: "
            "nothing is counted and no port opened."
        ),
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to answer on; whoever reaches it may read how much comes in.",
    )


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__"
    )

    data_dir: Path = Field(
        default=Path("preread-data"),
        description="Folder of images, results, quarantine and the SQLite database.",
    )
    scp: ScpSettings = Field(default_factory=ScpSettings, description="Receiving.")
    db: DbSettings = Field(default_factory=DbSettings, description="Database.")
    inference: InferenceSettings = Field(
        default_factory=InferenceSettings, description="Workers and models."
    )
    log: LogSettings = Field(default_factory=LogSettings, description="Log.")
    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Metrics.")
    ae: tuple[AeSettings, ...] = Field(
        default=(),
        description=(
            "Peers that may be called back, one [[ae]] each: for results that go to the sender, "
            "and for answers to storage commitment requests."
        ),
    )
    destination: tuple[DestinationSettings, ...] = Field(
        default=(), description="PACS that receive results, one [[destination]] each."
    )
    rule: tuple[RuleSettings, ...] = Field(
        default=(), description="Routing rules, one [[rule]] each; tried before the built-in ones."
    )
    model: tuple[ModelSettings, ...] = Field(
        default=(), description="Models beside the ones that ship, one [[model]] each."
    )

    notify: tuple[NotifySettings, ...] = Field(
        default=(),
        description="Who is told of chosen findings, one [[notify]] each; by default nobody is.",
    )

    @field_validator("ae", "destination", "rule", "model", "notify")
    @classmethod
    def _names_once(cls, entries: tuple[_N, ...]) -> tuple[_N, ...]:
        names = [entry.name for entry in entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice; every name stands once")
        return entries

    @model_validator(mode="after")
    def _acceptors_fit(self) -> Settings:
        wanted = self.scp.acceptors
        if wanted > _MOST_ON_SQLITE and self.on_sqlite:
            raise ValueError(
                f"scp.acceptors: {wanted} is too many for SQLite, where more than "
                f"{_MOST_ON_SQLITE} wait for each other: set {_MOST_ON_SQLITE} or fewer, or "
                "db.url to PostgreSQL"
            )
        if wanted > 1 and self.scp.port == 0:
            raise ValueError("scp.port: 0 gives each of several scp.acceptors another port; set it")
        return self

    @property
    def on_sqlite(self) -> bool:
        """Whether the database is an SQLite file."""
        return self.db_url.startswith("sqlite")

    @property
    def n_acceptors(self) -> int:
        """How many processes receive."""
        if self.scp.acceptors:
            return self.scp.acceptors
        if self.on_sqlite or self.scp.port == 0:
            return 1
        return min(len(os.sched_getaffinity(0)), _MOST_BY_DEFAULT)

    @property
    def db_url(self) -> str:
        """The database URL; without one SQLite in the data directory."""
        return self.db.url or f"sqlite:///{self.data_dir.absolute() / 'preread.sqlite'}"


def load(config: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings.

    Parameters
    ----------
    config : Path or None
        The TOML file; without one that of ``PREREAD_CONFIG``, else ``./preread.toml`` if there.
    flags : mapping, optional
        Values from the command line, nested as in the file; they win.

    Raises
    ------
    SettingsError
        If the file cannot be read, or a setting is unknown or wrong; all of them are named.
    """
    path = config_path(config)
    _refuse_unknown_variables()
    file = _read(path) if path else {}

    class Loaded(Settings):
        """Settings with their sources in order: flags, environment, file."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                InitSettingsSource(settings_cls, dict(flags or {})),
                env_settings,
                InitSettingsSource(settings_cls, file),
            )

    try:
        return Loaded()
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_explain(detail, path, file) for detail in error.errors())
        ) from None
    except PydanticSettingsError as error:
        raise SettingsError(f"a PREREAD_ variable cannot be read: {error}") from None


def config_path(config: Path | None) -> Path | None:
    """Return the settings file in force, if there is one."""
    if config is None and (variable := os.environ.get(CONFIG_VARIABLE)):
        config = Path(variable)
    if config is None:
        return DEFAULT_FILE.absolute() if DEFAULT_FILE.is_file() else None
    if not config.is_file():
        raise SettingsError(f"settings file {config} does not exist")
    return config.absolute()


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


def _explain(detail: ErrorDetails, path: Path | None, file: Mapping[str, Any]) -> str:
    """Say one validation error in one line that names the setting and the way out."""
    location = [part for part in detail["loc"] if part != "function-plain"]
    said = detail["msg"].removeprefix("Value error, ")
    if not location:  # of several settings together; the message names them
        return f"setting {said}"
    # What a variable says of a table stands there instead of all that the file says of it.
    is_of_file = f"{PREFIX}{location[0]}".upper() not in os.environ
    name = place_of(location, file if is_of_file else {})
    source = _source(location, path)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), list(_keys(location[:-1])), 1, 0.5)
        return f"unknown setting {name}{source}" + (f": did you mean {near[0]}?" if near else "")
    if detail["type"] == "missing":
        return f"setting {name} is missing{source}"
    # Entries name themselves in messages of their own.
    own_name = name.partition(" ")[2]
    return f"setting {name}{source}: {said.removeprefix(f'{own_name}: ')}"


def _source(location: list[int | str], path: Path | None) -> str:
    variable = PREFIX + "__".join(str(part) for part in location).upper()
    if variable in os.environ:
        return f" ({variable})"
    return f" ({path.name})" if path else ""


def _keys(location: list[int | str]) -> Iterator[str]:
    """Yield the known keys at a place in the settings."""
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return
        model = next(iter(get_args(field.annotation)), field.annotation)
    yield from getattr(model, "model_fields", {})


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in _OTHER_VARIABLES:
            top = variable.partition("__")[0]
            if top not in known:
                near = difflib.get_close_matches(top, sorted(known), 1)
                hint = f": did you mean {near[0]}?" if near else ""
                raise SettingsError(f"unknown setting {variable} in the environment{hint}")


def describe() -> Iterator[tuple[str, str, str]]:
    """Yield name, default and description of every setting, for documentation and tests."""
    yield from _describe("", Settings)


def _describe(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _describe(f"{prefix}{name}.", inner)
            continue
        element = next(iter(get_args(inner)), None)
        if isinstance(element, type) and issubclass(element, BaseModel):
            part = name if NoneType in get_args(inner) else f"[[{name}]]"
            yield from _describe(f"{prefix}{part}.", element)
            continue
        default = (
            "required"
            if field.is_required()
            else _default(field.get_default(call_default_factory=True))
        )
        yield f"{prefix}{name}", default, field.description or ""


def _default(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{part}"' for part in value) + "]"
    return f'"{value}"' if isinstance(value, (str, Path)) else str(value).lower()


__all__ = ["LogSettings", "Settings", "config_path", "describe", "load"]
