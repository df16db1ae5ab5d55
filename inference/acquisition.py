"""What a header says about who was imaged and how: phantom, contrast agent, kernel, projection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from pydicom import Dataset
from pydicom.multival import MultiValue

from .functional_groups import element, items

_WORD = re.compile(r"[^\W_]+")
# First words of a Contrast/Bolus Agent (0018,0010), which is free text, that say there was none,
# and whole texts that do. "NON IONIC" is a contrast agent.
_NONE_FIRST = frozenset(("NO", "NONE", "NOT", "NIL", "WITHOUT", "UNENHANCED"))
_NONE_WHOLE = frozenset(((), ("N",), ("NA",), ("N", "A"), ("0",), ("NONCONTRAST",)))
_NONE_BEGINNINGS = (("W", "O"), ("NON", "CONTRAST"), ("NON", "ENHANCED"))


def is_phantom(dataset: Dataset) -> bool:
    """Tell whether the image is declared to be of a phantom.

    By Quality Control Subject (0010,0200) or Quality Control Image (0028,0300). A value of BOTH
    means a patient beside a phantom, and a word in a name or a description means nothing.
    """
    declared = ("QualityControlSubject", "QualityControlImage")
    return any("YES" in texts(dataset, keyword) for keyword in declared)


def is_called_phantom(dataset: Dataset, patterns: Iterable[str]) -> bool:
    """Tell whether a word of Patient's Name or Patient ID matches one of the patterns."""
    patterns = tuple(patterns)
    if not patterns:  # names are left alone
        return False
    found = [word for keyword in ("PatientName", "PatientID") for word in _words(dataset, keyword)]
    return matches(found, patterns)


def is_lateral(dataset: Dataset) -> bool:
    """Tell whether a side of the image is the patient's front or back (PS3.3 C.7.6.1.1.1).

    The first letter of a direction is the main one: a slightly turned frontal view stays one.
    """
    return any(side[:1] in ("A", "P") for side in texts(dataset, "PatientOrientation"))


def contrast_given(dataset: Dataset) -> bool | None:
    """Return whether a contrast agent was given, None if the header does not say.

    The usage of each frame (PS3.3 C.8.15.3.10) is more precise than the agents of the image, and
    these as a sequence more than as a text. One agent or one frame with an agent is enough.
    """
    administered = {
        value
        for usage in _of_frames(dataset, "ContrastBolusUsageSequence")
        for value in texts(usage, "ContrastBolusAgentAdministered")
    }
    if administered & {"YES", "NO"}:
        return "YES" in administered
    agents = [
        " ".join(texts(item, "CodeMeaning"))
        for item in items(dataset, "ContrastBolusAgentSequence")
    ]
    if agents:
        # A code without a meaning is an agent all the same.
        return any(not agent or not _is_none(agent) for agent in agents)
    stated = texts(dataset, "ContrastBolusAgent")
    return any(not _is_none(agent) for agent in stated) if stated else None


def kernels(dataset: Dataset) -> set[tuple[str, ...]]:
    """Return the different values of Convolution Kernel (0018,1210); a frame may have its own."""
    holders = (dataset, *_of_frames(dataset, "CTReconstructionSequence"))
    return {found for holder in holders if (found := texts(holder, "ConvolutionKernel"))}


def matches(found: Iterable[str], patterns: Iterable[str]) -> bool:
    """Tell whether one of the texts matches one of the patterns; all are upper case."""
    wanted = tuple(patterns)
    return any(fnmatchcase(text, pattern) for text in found for pattern in wanted)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an attribute as upper-case text; those that are empty are left out."""
    value = element(dataset, keyword)
    if value is None:
        return ()
    several = value if isinstance(value, MultiValue | list | tuple) else (value,)
    return tuple(text for one in several if (text := str(one).strip().upper()))


def _words(dataset: Dataset, keyword: str) -> list[str]:
    return [word for text in texts(dataset, keyword) for word in _WORD.findall(text)]


def _of_frames(dataset: Dataset, group: str) -> Iterator[Dataset]:
    """Yield the items of a functional group, shared ones first (PS3.3 C.7.6.16)."""
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for functional_groups in items(dataset, keyword):
            yield from items(functional_groups, group)


def _is_none(agent: str) -> bool:
    words = tuple(_WORD.findall(agent))
    return (
        words in _NONE_WHOLE
        or words[0] in _NONE_FIRST
        or any(words[: len(beginning)] == beginning for beginning in _NONE_BEGINNINGS)
    )
