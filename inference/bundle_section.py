"""What a Preread section says, key by key: ``configs/preread.json``. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from .calibration import Calibration
from .long_string import ASKED, is_long_string
from .outputs import Output
from .sequence_spec import SequenceSpec

Activation = Literal["sigmoid", "softmax"]

SCHEMA = 1
_KEYS = {
    "schema", "input", "labels", "activation", "primary", "pooling", "suitability", "masks",
    "calibration", "sequence", "exclusive", "engine", "explanation",
}  # fmt: skip


def require_known(preread: Mapping[str, Any]) -> None:
    """Raise ValueError if a section is of another schema, or has keys that nothing reads."""
    if preread.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"schema {preread['schema']} is not known; this version reads {SCHEMA}")
    unknown = preread.keys() - _KEYS
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")


def require_long_strings(**stated: str) -> None:
    """Raise ValueError if what a report states of a model cannot stand in one; by its name."""
    for what, text in stated.items():
        if not is_long_string(text):
            raise ValueError(
                f"the model's {what} {text!a} cannot be written into reports, which take {ASKED}: "
                "change it in configs/metadata.json, or where the settings say it"
            )


def activation_of(raw: object) -> Activation:
    """Return what makes probabilities of the outputs; ValueError if it is not known."""
    if raw not in get_args(Activation):
        raise ValueError(f"activation {raw!r} is not one of {', '.join(get_args(Activation))}")
    return cast(Activation, raw)


def mapped_of(raw: object, outputs: Sequence[Output]) -> tuple[str, ...]:
    """Return the labels that have maps beside their numbers; ValueError if they are no labels."""
    if isinstance(raw, bool):
        return ()
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"masks is {raw!r}, not true, false or a list of labels")
    names = tuple(str(name) for name in raw)
    if unknown := set(names) - {output.label.name for output in outputs}:
        raise ValueError(f"masks names {', '.join(sorted(unknown))}, which is no label")
    if len(set(names)) < len(names):
        raise ValueError("masks names a label twice")
    return names


def calibration_of(raw: Mapping[str, Any] | None, labels: int) -> Calibration | None:
    """Return what is done to the probabilities of so many labels, if anything."""
    return None if raw is None else Calibration.from_dict(raw, labels)


def sequence_of(preread: Mapping[str, Any], path: Path) -> SequenceSpec | None:
    """Return the head over the slices, if there is one; ValueError for other kinds."""
    if (raw := preread.get("sequence")) is None:
        return None
    if preread["input"]["kind"] != "ct_slices":
        raise ValueError("sequence is for ct_slices: a radiograph has no slices")
    return SequenceSpec.from_dict(raw, path)


def flag_of(name: str, raw: object) -> bool:
    """Return true or false; ValueError for anything else."""
    if not isinstance(raw, bool):
        raise ValueError(f"{name} is {raw!r}, not true or false")
    return raw


def exclusive_of(preread: Mapping[str, Any]) -> bool:
    """Return whether a place has one output alone; ValueError for maps beside numbers."""
    said = flag_of("exclusive", preread.get("exclusive", False))
    if said and not isinstance(preread.get("masks", False), bool):
        raise ValueError("exclusive needs masks = true: maps beside numbers are of each label")
    return said


def primary_of(preread: Mapping[str, Any], outputs: Sequence[Output]) -> str:
    """Return the label that stands for the others; ValueError if it is none."""
    primary = str(preread.get("primary", outputs[0].label.name))
    if primary not in {output.label.name for output in outputs}:
        raise ValueError(f"primary {primary!r} is not one of the labels")
    return primary
