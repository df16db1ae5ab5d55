"""A person's name of DICOM as HL7 writes it.

DICOM has up to three groups (PS3.5 Section 6.2.1): alphabetic, ideographic and phonetic. HL7 writes
each as a repetition of PID-5 and says which it is in XPN-8, Name Representation Code (HL7 Table
0465): A, I and P. The components are the same five in another order: DICOM's fourth is the prefix,
XPN-4 the suffix.
"""

from __future__ import annotations

from collections.abc import Callable

# XPN-7, Name Type Code (HL7 Table 0200): L legal name, U unspecified.
_NAMELESS = "^^^^^^U"
_GROUPS = "AIP"


def person_names(name: str, codec: str, escape: Callable[[str], str]) -> list[str]:
    """Return the repetitions of PID-5.

    Parameters
    ----------
    name : str
        Value of a PN, its groups separated by ``=``.
    codec : str
        Groups that it cannot write are left out, as long as one remains.
    escape : callable
        Escapes a component.
    """
    groups = list(zip(_GROUPS, name.split("="), strict=False))
    known = [(code, group) for code, group in groups if escape(group.replace("^", ""))]
    if not known:
        return [_NAMELESS]
    writable = [one for one in known if _is_writable(one[1], codec)]
    return [_xpn(group, code, escape) for code, group in writable or known]


def _is_writable(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _xpn(group: str, representation: str, escape: Callable[[str], str]) -> str:
    given_up_to_five = [part.strip() for part in group.split("^", 4)]
    family, given, middle, prefix, suffix = (given_up_to_five + [""] * 5)[:5]
    parts = [escape(part) for part in (family, given, middle, suffix, prefix)]
    return "^".join([*parts, "", "L", representation])
