"""How to serve a bundle that was just made: the sections of the settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from scp import rules_in_force

from ..errors import DeployError


def require_own_images(name: str, reader: str) -> None:
    """Make sure that no built-in rule would give a model other images than its reader is for.

    Raises
    ------
    DeployError
        If a built-in rule gives images of another kind to what has this name.
    """
    builtin = rules_in_force(())
    read = [rule.when for rule in builtin if rule.model == reader]
    for rule in builtin:
        if rule.model == name and rule.when not in read:
            raise DeployError(
                f"--name {name} is taken: the built-in rule {rule.name} gives {name} images that "
                f"are none for {reader}; choose another name"
            )


def sections(name: str, path: Path, demonstration: str | None) -> Iterator[str]:
    """Yield what to add to the settings, TOML.

    Parameters
    ----------
    name : str
        Of the model.
    path : Path
        Of its bundle.
    demonstration : str or None
        The model that ships for the same images; it is switched off, unless it has this very name.
    """
    yield f"[[model]]\nname = {_toml(name)}\npath = {_toml(str(path.absolute()))}"
    if demonstration is not None and demonstration != name:
        yield (
            "\n[[model]]  # the demonstration has no say beside it\n"
            f"name = {_toml(demonstration)}\nenabled = false"
        )


def _toml(text: str) -> str:
    """Return a string of TOML: as JSON has it, but that DEL is a control character there too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
