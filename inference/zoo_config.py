"""Configurations of MONAI Bundles, read without running anything that they say.

MONAI evaluates strings of a configuration: ``@name`` is another part of it, ``$expression`` is
Python, ``%file`` a part of another file. Here references are followed, and of expressions those
are worked out that are plain arithmetic on plain values; everything else is refused by its name.
Light: no torch.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import BundleError

NAMES = ("inference.json", "inference.yaml", "inference.yml")

_REFERENCE = re.compile(r"@(\w+(?:(?:#|::)\w+)*)")
# References in references, and lists in lists, deeper than any network is defined.
_DEEPEST = 40
_LONGEST = 2_000
# Values that are made of one configuration: ten references to ten references are soon billions.
_MOST = 100_000
# Beyond this a number is no side, channel or count.
_LARGEST = 1e12

# What parsing and reckoning raise on odd expressions, deeply nested ones too.
_UNWORKABLE = (
    ArithmeticError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError,
)  # fmt: skip

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


def read_config(path: Path) -> tuple[Path, Configuration]:
    """Read the configuration of inference of a bundle, JSON or YAML.

    Parameters
    ----------
    path : Path
        Folder of the bundle.

    Returns
    -------
    Path
        The file that was read.
    Configuration

    Raises
    ------
    BundleError
        If there is none, or it is damaged.
    """
    for name in NAMES:
        file = path / "configs" / name
        if file.is_file():
            return file, Configuration(_parsed(file))
    raise BundleError(f"{path}/configs holds neither preread.json nor {' nor '.join(NAMES)}")


def _parsed(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    except (*_UNWORKABLE, AttributeError, yaml.YAMLError) as error:
        what = "JSON" if file.suffix == ".json" else "YAML"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{file} is not {what} that this node reads: {first}") from error
    if not isinstance(content, Mapping):
        raise BundleError(f"{file} must hold an object")
    return content


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration whose parts can be asked for as plain values."""

    content: Mapping[str, Any]
    _left: Iterator[int] = field(
        default_factory=lambda: iter(range(_MOST)), init=False, repr=False, compare=False
    )

    def get(self, name: str) -> Any:
        """Return a part as plain values; None if there is none.

        Raises
        ------
        ValueError
            If it cannot be told without running code; the message names the place.
        """
        return self.plain(self.content[name], name) if name in self.content else None

    def plain(self, value: Any, where: str, depth: int = 0) -> Any:
        """Return a value with its references followed and its arithmetic done; see `get`."""
        if depth > _DEEPEST:
            raise ValueError(f"{where} refers to itself, or is nested more than {_DEEPEST} deep")
        if next(self._left, None) is None:
            raise ValueError(f"{where} is one of more than {_MOST} values, which no network needs")
        if isinstance(value, Mapping):
            return {key: self.plain(v, f"{where}#{key}", depth + 1) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.plain(v, f"{where}#{n}", depth + 1) for n, v in enumerate(value)]
        if not isinstance(value, str):
            return value
        if value.startswith("%"):
            raise ValueError(f"{where} is {value!r}, a part of another file, which is not read")
        if value.startswith("@"):
            if not (found := _REFERENCE.fullmatch(value)):
                raise ValueError(f"{where} is {value!r}, no reference that is understood")
            return self._referred(found[1], where, depth)
        if value.startswith("$"):
            return self._worked_out(value[1:], where, depth)
        return value

    def _referred(self, name: str, where: str, depth: int) -> Any:
        value: Any = self.content
        for part in re.split("#|::", name):
            try:
                value = value[int(part)] if isinstance(value, list) else value[part]
            except (KeyError, IndexError, TypeError, ValueError):
                raise ValueError(f"{where} refers to @{name}, which is not there") from None
        return self.plain(value, name, depth + 1)

    def _worked_out(self, text: str, where: str, depth: int) -> Any:
        if len(text) > _LONGEST:
            raise ValueError(f"{where} is an expression of {len(text)} characters")
        known: dict[str, Any] = {}

        def placeholder(found: re.Match[str]) -> str:
            name = f"_reference_{len(known)}"
            known[name] = self._referred(found[1], where, depth)
            return name

        written = _REFERENCE.sub(placeholder, text)
        try:
            tree = ast.parse(written.strip(), mode="eval")
            return _value(tree.body, known)
        except _UNWORKABLE as error:
            raise ValueError(
                f"{where} is the expression {'$' + text!r}, which is not run ({error})"
            ) from None


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """Return the value of an expression of literals, arithmetic, comparisons and conditions."""
    match node:
        case ast.Constant(value=value) if isinstance(value, (bool, int, float, str, type(None))):
            return value
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, known) for part in parts]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, known)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, known)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, known) else other, known)
        case ast.Subscript(value=holder, slice=index):
            return _value(holder, known)[_value(index, known)]
        case ast.BinOp(left=left, op=kind, right=right) if type(kind) in _BINARY:
            return _combined(_BINARY[type(kind)], _value(left, known), _value(right, known))
        case ast.Compare(left=left, ops=[kind], comparators=[right]) if type(kind) in _COMPARED:
            return _COMPARED[type(kind)](_value(left, known), _value(right, known))
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is more than arithmetic")


def _combined(operation: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    numbers = all(isinstance(one, (int, float)) for one in (left, right))
    sequences = all(isinstance(one, list) for one in (left, right)) or all(
        isinstance(one, str) for one in (left, right)
    )
    if not numbers and not (sequences and operation is operator.add):
        raise TypeError("only numbers are reckoned with, only lists and texts put together")
    result = operation(left, right)
    if isinstance(result, Sequence):
        if len(result) > _LONGEST:
            raise ValueError("the result is too long")
    elif abs(result) > _LARGEST:
        raise ValueError("the result is too large")
    return result
