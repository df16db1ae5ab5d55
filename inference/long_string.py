"""What can stand in a Long String (LO, PS3.5 6.2) of a report: names, versions, makers."""

from __future__ import annotations

LONGEST = 64
ASKED = f"1 to {LONGEST} printable ASCII characters, no backslash"


def is_long_string(text: str) -> bool:
    """Tell whether a text is what `ASKED` says; one of spaces alone is none."""
    legal = text.isascii() and text.isprintable() and "\\" not in text and bool(text.strip())
    return legal and len(text) <= LONGEST
