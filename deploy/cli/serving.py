"""How to serve a bundle that was just made: the sections of the settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path


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
    where = json.dumps(str(path.absolute()), ensure_ascii=False)
    yield f"[[model]]\nname = {json.dumps(name)}\npath = {where}"
    if demonstration is not None and demonstration != name:
        yield (
            "\n[[model]]  # the demonstration has no say beside it\n"
            f"name = {json.dumps(demonstration)}\nenabled = false"
        )
