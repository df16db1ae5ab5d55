"""What the files of a bundle and the settings of a site say together. Light: no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import zoo
from .errors import BundleError
from .known_labels import label_meant
from .zoo_config import read_config

WEIGHTS_FILES = ("model.safetensors", "model.pt")
# What a section of the settings may say besides.
_SITE = ("ignore", "manufacturer")


@dataclass(frozen=True, slots=True)
class Stated:
    """What files and settings say of a bundle together."""

    metadata: Mapping[str, Any]
    network_def: Mapping[str, Any]
    preread: Mapping[str, Any]


def stated(path: Path, said: Mapping[str, Any], name: str | None) -> tuple[Path, Stated]:
    """Return what is said of a model, and the file that says most of it.

    Parameters
    ----------
    path : Path
        Folder of the bundle.
    said : mapping
        What the settings say, by the keys of ``configs/preread.json``.
    name : str or None
        Name of a bundle without that file.

    Raises
    ------
    BundleError
        If a file is missing, or what has to be said is neither there nor in the settings.
    """
    metadata = read_json(path / "configs" / "metadata.json")
    made = {k: v for k, v in said.items() if k == "manufacturer"}
    where = path / "configs" / "preread.json"
    if where.is_file():
        preread, changed = read_json(where), {k: v for k, v in said.items() if k not in _SITE}
        for part in ("input", "pooling"):
            if part in changed and "kind" not in changed[part]:
                changed[part] = {**preread.get(part, {}), **changed[part]}
        if "labels" in changed:
            changed["labels"] = zoo.labels(changed["labels"], {})
        definition = _network_def(path / "configs" / "inference.json")
        return where, Stated({**metadata, **made}, definition, _meant({**preread, **changed}))
    where, config = read_config(path)
    try:
        definition = zoo.network_def(config)
        preread = zoo.preread_section(config, metadata, said)
    except KeyError as error:
        raise BundleError(f"{where}: {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{where}: {error}") from error
    known = {"manufacturer": zoo.manufacturer(metadata), **made, "name": name or path.name}
    return where, Stated({**metadata, **known}, definition, _meant(preread))


def _meant(preread: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section with its labels named in `masks` and `primary` as they are stored."""
    told = preread.get("labels")
    labels = [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []
    names = [str(one.get("name")) for one in labels]
    made = dict(preread)
    if isinstance(made.get("masks"), list):
        made["masks"] = [label_meant(str(name), names) for name in made["masks"]]
    if "primary" in made:
        made["primary"] = label_meant(str(made["primary"]), names)
    return made


def find_weights(path: Path) -> Path:
    """Return the weights file of a bundle; BundleError if there is none that is read."""
    for name in WEIGHTS_FILES:
        if (candidate := path / "models" / name).is_file():
            return candidate
    scripts = sorted(one.name for one in (path / "models").glob("*.ts"))
    hint = f"; {scripts[0]} is TorchScript, which is code and is not run" if scripts else ""
    raise BundleError(f"{path}/models holds neither {' nor '.join(WEIGHTS_FILES)}{hint}")


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from its file; BundleError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must hold a JSON object")
    return content


def _network_def(path: Path) -> Mapping[str, Any]:
    network_def = read_json(path).get("network_def")
    if not isinstance(network_def, dict) or "_target_" not in network_def:
        raise BundleError(f"{path}: network_def with a _target_ is missing")
    return network_def
