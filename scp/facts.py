"""Facts for the routing rules, read from the header of a stored instance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

from .conditions import Facts
from .errors import Part10Error
from .rules import decide, keywords_needed
from .settings import RuleSettings


def read_facts(path: Path, keywords: Iterable[str]) -> Facts:
    """Read what the rules ask for from a DICOM file, without its pixels.

    Raises
    ------
    Part10Error
        If the file cannot be read as DICOM.
    OSError
        If it cannot be read at all.
    """
    wanted = sorted(keywords)
    try:
        header = dcmread(
            path,
            stop_before_pixels=True,
            specific_tags=sorted({keyword.partition(".")[0] for keyword in wanted}),
        )
        return {keyword: _values(header, keyword.split(".")) for keyword in wanted}
    except InvalidDicomError as error:
        raise Part10Error(f"{path}: not a DICOM file") from error
    except (ValueError, TypeError, AttributeError, EOFError) as error:
        # pydicom raises these for values that contradict their VR.
        raise Part10Error(f"{path}: the header is damaged ({type(error).__name__})") from error


def explain(path: Path, rules: Sequence[RuleSettings]) -> str:
    """Return, as text for a person, which model would read a file and why no other one.

    Raises what `read_facts` raises.
    """
    decision = decide(read_facts(path, keywords_needed(rules)), rules)
    lines = [
        f"  -> {route.model} ({route.priority}{', shadow' if route.shadow else ''}),"
        f" rule {route.rule}"
        for route in decision.routes
    ]
    lines = lines or ["  -> parked: kept, read by no model"]
    return "\n".join([str(path), *lines, *(f"     {reason}" for reason in decision.reasons)])


def _values(data_set: Dataset, path: Sequence[str]) -> tuple[str, ...]:
    value = data_set.get(path[0])
    if isinstance(value, DicomSequence):
        return tuple(text for item in value for text in _values(item, path[1:])) if path[1:] else ()
    if value is None or len(path) > 1:
        return ()
    several = value if isinstance(value, MultiValue | list | tuple) else (value,)
    return tuple(str(one).strip() for one in several)
