"""Which engine a bundle asks for: ``engine`` of ``configs/preread.json``. Light: no torch.

Either a name, ``"engine": "torch"``, or a name and a precision, ``"engine": {"name": "torch",
"precision": "bfloat16"}``. A precision below float32 says that the bundle was validated with it.
It holds on a GPU alone: a CPU computes in single precision always, because most of them only
emulate the others, which is slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast, get_args

EngineName = Literal["auto", "onnx", "torch", "openvino", "tensorrt"]
Precision = Literal["float32", "bfloat16", "float16"]
# Of engines that do not have all of them.
_PRECISIONS: Mapping[EngineName, tuple[Precision, ...]] = MappingProxyType(
    {"onnx": ("float32",), "openvino": ("float32",), "tensorrt": ("float32", "float16")}
)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What a bundle asks for.

    Attributes
    ----------
    name : {"auto", "onnx", "torch", "openvino", "tensorrt"}
        ``auto``: CUDA graphs on a GPU; on a CPU ONNX Runtime where it gives what torch gives, torch
        otherwise. ``onnx``: ONNX Runtime on the CPU or nothing. ``torch``: torch as it comes, layer
        by layer. ``openvino`` on the CPU and ``tensorrt`` on a GPU, or nothing: packages of their
        own, which run what was exported for ONNX Runtime.
    precision : {"float32", "bfloat16", "float16"}
        Of the arithmetic on a GPU.

    Raises
    ------
    ValueError
        If a name is unknown, or the precision is one that the engine has not.
    """

    name: EngineName = "auto"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        _one_of("engine", self.name, get_args(EngineName))
        _one_of("engine.precision", self.precision, get_args(Precision))
        if self.name in _PRECISIONS and self.precision not in _PRECISIONS[self.name]:
            raise ValueError(
                f"engine {self.name} computes in {' or '.join(_PRECISIONS[self.name])}, not in "
                f"{self.precision}; leave the precision out or take the engine auto"
            )

    @classmethod
    def from_raw(cls, raw: object) -> EngineSpec:
        """Return what JSON says: nothing, a name, or an object of name and precision."""
        if raw is None:
            return cls()
        if isinstance(raw, str):
            return cls(cast(EngineName, raw))
        if not isinstance(raw, Mapping):
            raise ValueError(f"engine is {raw!r}, neither a name nor a name and a precision")
        if unknown := raw.keys() - {"name", "precision"}:
            raise ValueError(f"engine has unknown keys: {', '.join(sorted(map(str, unknown)))}")
        name, precision = raw.get("name", "auto"), raw.get("precision", "float32")
        return cls(cast(EngineName, name), cast(Precision, precision))

    def to_dict(self) -> dict[str, str]:
        """Return what `from_raw` takes."""
        return {"name": self.name, "precision": self.precision}


def _one_of(what: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}, not one of {', '.join(known)}")
