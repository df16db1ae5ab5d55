"""What is said of an engine that cannot be had: who asks for it, what is wrong, the way out. Light.

The path of the bundle alone would have people look for the fault in its files.
"""

from __future__ import annotations

import json

from ..bundle import Bundle
from ..engine_spec import EngineSpec

_FILE = "configs/preread.json"


def unavailable(bundle: Bundle, why: str) -> str:
    """Return the message.

    Parameters
    ----------
    bundle : Bundle
        As it is served.
    why : str
        Goes on from ``engine = "openvino"``: ``and its package is not installed: ...``.
    """
    return (
        f"model {bundle.name}: {_who_asks(bundle)} engine {bundle.engine.name}, {why}; with "
        f'engine = "auto" under its [[model]] it does without'
    )


def _who_asks(bundle: Bundle) -> str:
    try:
        said = json.loads((bundle.path / _FILE).read_text(encoding="utf-8")).get("engine")
        own = EngineSpec.from_raw(said)
    except (OSError, ValueError, AttributeError):  # a bundle of the zoo has no such file
        own = EngineSpec()
    if own.name == bundle.engine.name:
        return f"{bundle.path / _FILE} asks for the"
    return "its [[model]] in the settings asks for the"
