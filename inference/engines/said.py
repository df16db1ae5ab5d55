"""What a library says of an error, in one line that people read to its end. Light."""

from __future__ import annotations

_MOST = 300
# Of a long message the beginning says where; what is wrong, and the way out, stands at its end.
_BEGINNING = 100
_BETWEEN = " ... "


def said(text: str, otherwise: str) -> str:
    """Return a message in one line of at most 300 characters; of a long one both ends.

    Parameters
    ----------
    text : str
    otherwise : str
        What is returned of an empty one.
    """
    line = " ".join(text.split())
    if len(line) > _MOST:
        rest = _MOST - _BEGINNING - len(_BETWEEN)
        line = f"{line[:_BEGINNING].rstrip()}{_BETWEEN}{line[-rest:].lstrip()}"
    return line or otherwise
