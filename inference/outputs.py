"""What the outputs of a network mean. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .codes import fault
from .reading import Code, Label, Thresholds


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the network: its index, and the label that it means.

    Attributes
    ----------
    min_volume_ml : float
        Of maps of volumes: how much must reach a probability for the label to have it.
    """

    index: int
    label: Label
    min_volume_ml: float = 0.0


def parse_outputs(raw: Sequence[Mapping[str, Any]]) -> tuple[Output, ...]:
    """Read the ``labels`` of a Preread section.

    Raises
    ------
    KeyError
        If a label lacks its name, code or thresholds.
    ValueError
        If there is no label, two share an output or a name, or a value is impossible.
    """
    outputs = tuple(_output(index, entry) for index, entry in enumerate(raw))
    if not outputs:
        raise ValueError("labels is empty")
    for what in ({output.index for output in outputs}, {o.label.name for o in outputs}):
        if len(what) != len(outputs):
            raise ValueError("two labels share an output or a name")
    return outputs


def _output(position: int, raw: Mapping[str, Any]) -> Output:
    site = raw.get("site")
    thresholds = raw["thresholds"]
    anatomy = raw.get("anatomy", False)
    if not isinstance(anatomy, bool):
        raise ValueError(f"label {raw['name']}: anatomy is {anatomy!r}, not true or false")
    label = Label(
        name=str(raw["name"]),
        code=_code(raw["code"]),
        thresholds=Thresholds(low=float(thresholds["low"]), high=float(thresholds["high"])),
        site=_code(site) if site is not None else None,
        anatomy=anatomy,
    )
    index = int(raw.get("output", position))
    if index < 0:
        raise ValueError(f"label {label.name}: output {index} is negative")
    volume = float(raw.get("min_volume_ml", 0.0))
    if not 0.0 <= volume <= 10_000.0:
        raise ValueError(f"label {label.name}: min_volume_ml is {volume}, outside 0 to 10000")
    return Output(index, label, volume)


def _code(raw: Mapping[str, Any]) -> Code:
    code = Code(str(raw["value"]), str(raw["scheme"]), str(raw["meaning"]))
    wrong = fault(code)
    if wrong is not None:
        raise ValueError(wrong)
    return code
