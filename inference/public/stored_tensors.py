"""The tensors of a file of ``torch.save``, without running a line that the file brings.

Such a file is a pickle: unpickling it imports and calls whatever it names. Older publications are
whole pickled modules in the format before torch 1.6, which torch's own ``weights_only`` refuses.
Here the pickle may name containers, storages and the two functions that rebuild tensors, which are
ours; classes of networks become inert objects that hold their state; any other name is refused
before anything of it is looked up.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch

from ..errors import BundleError

_LARGEST_FILE: Final = 1 << 30
# What describes the tensors, without their numbers.
_LARGEST_PICKLE: Final = 8 << 20
_MOST_TENSORS: Final = 100_000
# Modules that a network may hold; torchvision's ResNet-152 has some 600.
_MOST_MODULES: Final = 20_000
_DEEPEST: Final = 50
# What the pickle before torch 1.6 begins with, and its version.
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL: Final = 1001
# Classes whose objects are kept as inert state: layers, and networks that packages define.
_INERT_MODULES: Final = ("torch.nn.", "torchvision.models.", "torchxrayvision.")
# Attributes of published modules may be arrays of names; nobody needs them.
_INERT_NAMES: Final = frozenset(
    {
        ("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode"),
        ("numpy.core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "scalar"),
    }
)  # fmt: skip
_STORAGES: Final[Mapping[str, torch.dtype]] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_MEMO: Final = ("PUT", "BINPUT", "LONG_BINPUT")
_DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, ArithmeticError, AttributeError,
    EOFError, LookupError, MemoryError, RecursionError, RuntimeError, TypeError, ValueError,
    NotImplementedError,
)  # fmt: skip


class _RefusedError(Exception):
    """The pickle names something that weights do not need."""


@dataclass(slots=True)
class _Storage:
    """Numbers that tensors are views of; read after the pickle."""

    dtype: torch.dtype
    count: int
    values: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor as the pickle describes it."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the tensor, which may be more than its storage has."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def tensor(self) -> torch.Tensor:
        """Return the tensor, with memory of its own."""
        if self.storage.values is None or math.prod(self.shape) > self.storage.count:
            raise ValueError("a tensor is larger than its storage")
        view = torch.as_strided(self.storage.values, self.shape, self.strides, self.offset)
        return view.clone()


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a saved module, or a saved state dict.

    Parameters
    ----------
    path : Path
        Of ``torch.save``, in either of its formats.

    Returns
    -------
    dict of str to Tensor
        As ``state_dict()`` of the module would give it, on the CPU.

    Raises
    ------
    BundleError
        If the file is damaged, holds no weights, or names anything that weights do not need; what
        it names is not imported and not called.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise BundleError(f"{path} has more than {_LARGEST_FILE >> 20} MiB and is not read")
        views = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        return {name: view.tensor() for name, view in views.items()}
    except _RefusedError as error:
        raise BundleError(
            f"{path} names {error}, which no weights need: it is not loaded, and nothing of it was "
            "run"
        ) from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        raise BundleError(
            f"{path} is no file of weights that torch.save wrote ({type(error).__name__})"
        ) from error


class _Unpickler(pickle.Unpickler):
    """Knows the names that weights need and no other."""

    def __init__(self, file: Any, storages: dict[str, _Storage]) -> None:
        # Files of Python 2 have names as bytes.
        super().__init__(file, encoding="latin-1")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is imported."""
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if module == "torch" and name in _STORAGES:
            return _Dtype(_STORAGES[name])
        if module.startswith(_INERT_MODULES) or (module, name) in _INERT_NAMES:
            # A class of its own for each mention: what the pickle does to it reaches no other.
            return type("Inert", (_Inert,), {})
        raise _RefusedError(f"{module}.{name}"[:200])

    def persistent_load(self, pid: Any) -> Any:
        """Return a storage, or the class whose source an old file carries along."""
        kind = pid[0].decode("ascii") if isinstance(pid[0], bytes) else pid[0]
        if kind == "module":
            return pid[1]
        if kind != "storage":
            raise _RefusedError(f"a persistent {kind!a}"[:200])
        dtype, key, count = pid[1].dtype, str(pid[2]), int(pid[4])
        if len(pid) > 5 and pid[5] is not None:
            raise _RefusedError("a view of a storage")
        storage = self._storages.setdefault(key, _Storage(dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise ValueError("two descriptions of one storage")
        return storage


@dataclass(frozen=True, slots=True)
class _Dtype:
    dtype: torch.dtype


class _Inert:
    """An object of a class that is not loaded: its state, and nothing that could run."""

    def __new__(cls, *args: object, **keywords: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **keywords: object) -> None:
        self.state: Mapping[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, Mapping) else {}


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: object
) -> _View:
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor without a storage")
    if any(count < 0 for count in shape):
        raise ValueError("a tensor of a negative size")
    return _View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(data: _View, *rest: object) -> _View:
    if not isinstance(data, _View):
        raise TypeError("a parameter without a tensor")
    return data


_KNOWN: Final[Mapping[tuple[str, str], Callable[..., Any]]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


def _bounded(head: bytes) -> bytes:
    """Return the pickle that bytes begin with, if loading it costs no more than it is long.

    The memo of an unpickler is as long as its highest index, which a few bytes can say.
    """
    file = io.BytesIO(head)
    highest = max(
        (
            int(argument)
            for code, argument, _ in pickletools.genops(file)
            if code.name in _MEMO and argument is not None
        ),
        default=0,
    )
    if highest > file.tell():
        raise ValueError("a memo that is longer than its pickle")
    return head[: file.tell()]


def _next_pickle(file: BinaryIO, storages: dict[str, _Storage]) -> Any:
    """Load the pickle where a file stands, and leave the file behind it."""
    start = file.tell()
    data = _bounded(file.read(_LARGEST_PICKLE))
    file.seek(start + len(data))
    return _Unpickler(io.BytesIO(data), storages).load()


def _read_zip(path: Path) -> dict[str, _View]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if sum(info.file_size for info in members.values()) > _LARGEST_FILE:
            raise ValueError("the archive is larger than its file")
        name = next((name for name in members if name.endswith("/data.pkl")), None)
        if name is None:
            raise ValueError("the archive holds no data.pkl")
        root = name.removesuffix("data.pkl")
        order = root + "byteorder"
        if order in members and archive.read(order) != b"little":
            raise ValueError("big-endian")
        if members[name].file_size > _LARGEST_PICKLE:
            raise ValueError("a description of tensors that is too long")
        storages: dict[str, _Storage] = {}
        views = _views(_next_pickle(io.BytesIO(archive.read(name)), storages))
        for key, storage in storages.items():
            _fill(storage, archive.read(f"{root}data/{key}"))
    return views


def _read_legacy(path: Path) -> dict[str, _View]:
    storages: dict[str, _Storage] = {}
    with path.open("rb") as file:
        begins = [_next_pickle(file, {}) for _ in range(3)]
        if begins[:2] != [_LEGACY_MAGIC, _LEGACY_PROTOCOL]:
            raise ValueError("another format")
        if not begins[2].get("little_endian", True):
            raise ValueError("big-endian")
        views = _views(_next_pickle(file, storages))
        for key in _next_pickle(file, {}):
            storage = storages[str(key)]
            (count,) = struct.unpack("<q", file.read(8))
            if count != storage.count:
                raise ValueError("a storage has another length than its description")
            _fill(storage, file.read(count * storage.dtype.itemsize))
    return views


def _fill(storage: _Storage, data: bytes) -> None:
    if len(data) != storage.count * storage.dtype.itemsize:
        raise ValueError("a storage is cut short")
    storage.values = (
        torch.frombuffer(bytearray(data), dtype=storage.dtype)
        if data
        else torch.empty(0, dtype=storage.dtype)
    )


@dataclass(slots=True)
class _Walk:
    views: dict[str, _View] = field(default_factory=dict)
    seen: int = 0


def _views(saved: object) -> dict[str, _View]:
    """Return the tensors of a saved module or state dict by their names in a state dict."""
    if isinstance(saved, Mapping):
        views = {str(name): view for name, view in saved.items() if isinstance(view, _View)}
        if len(views) != len(saved):
            raise ValueError("not a state dict")
    else:
        walk = _Walk()
        _collect(saved, "", walk, 0)
        views = walk.views
    if not views:
        raise ValueError("no weights")
    # Each gets memory of its own, however many are views of one storage.
    if sum(view.size for view in views.values()) > _LARGEST_FILE:
        raise ValueError("the tensors are larger than any file of them")
    return views


def _collect(module: object, prefix: str, walk: _Walk, depth: int) -> None:
    walk.seen += 1
    if not isinstance(module, _Inert) or depth > _DEEPEST or walk.seen > _MOST_MODULES:
        raise ValueError("no module of layers")
    state = module.state
    passing = state.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, view in state.get(kind, {}).items():
            if view is None or (kind == "_buffers" and name in passing):
                continue
            if not isinstance(view, _View):
                raise ValueError("a parameter is no tensor")
            if len(walk.views) >= _MOST_TENSORS:
                raise ValueError("more tensors than any network has")
            walk.views[f"{prefix}{name}"] = view
    for name, child in state.get("_modules", {}).items():
        if child is not None:
            _collect(child, f"{prefix}{name}.", walk, depth + 1)
