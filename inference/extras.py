"""How what is optional is installed. Light."""

from __future__ import annotations


def installed_by(extra: str) -> str:
    """Return the command that installs an extra, and where: Preread is on no package index."""
    return f"pip install -e '.[{extra}]' in the folder of Preread's source"
