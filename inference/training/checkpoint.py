"""The state of a training on disk: whole or not at all, and of one training alone."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import InferenceError

_CHECKPOINT = "checkpoint.pt"
_DESCRIPTION = "run.json"


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file at once: after a crash it has its old content or the new, never a part."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class RunFolder:
    """What a training keeps while it goes on.

    Parameters
    ----------
    path : Path
        Made when there is something to keep.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, description: Mapping[str, object], fresh: bool) -> None:
        """Make this the folder of the training that is described.

        Parameters
        ----------
        description : mapping
            Settings and data digest; JSON-serialisable, flat.
        fresh : bool
            Begin anew, whatever the folder holds.

        Raises
        ------
        InferenceError
            If it is the folder of another training.
        """
        path = self.path / _DESCRIPTION
        if fresh:
            (self.path / _CHECKPOINT).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        if differing := self._differing(description):
            raise InferenceError(
                f"{self.path} holds another training ({differing}): go on with its settings, "
                "give another --run, or begin anew with --fresh"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        write_durably(path, (json.dumps(description, indent=2) + "\n").encode())

    def check_free(self, description: Mapping[str, object]) -> None:
        """Make sure that the folder is of no training, or of the one described; claim nothing.

        Raises
        ------
        InferenceError
            If it is the folder of another training.
        """
        if differing := self._differing(description):
            raise InferenceError(
                f"{self.path} holds another training ({differing}): give its settings or another "
                "--run"
            )

    def _differing(self, description: Mapping[str, object]) -> str:
        path = self.path / _DESCRIPTION
        wanted = json.loads(json.dumps(description))
        return _differing(_read(path), wanted) if path.is_file() else ""

    @property
    def has_checkpoint(self) -> bool:
        """Whether a training can go on from here."""
        return (self.path / _CHECKPOINT).is_file()

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the state of a training in place of the one before."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.path.mkdir(parents=True, exist_ok=True)
        write_durably(self.path / _CHECKPOINT, buffer.getvalue())

    def load(self) -> dict[str, Any] | None:
        """Return the state that was kept, on the CPU, or None.

        Raises
        ------
        InferenceError
            If the file cannot be read.
        """
        path = self.path / _CHECKPOINT
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise InferenceError(f"{path} cannot be read: begin anew with --fresh") from error
        return state


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InferenceError(f"{path} cannot be read: begin anew with --fresh") from error
    return content if isinstance(content, dict) else {}


def _differing(there: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    names = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    told = [f"{name} {there.get(name)!s:.40}, now {wanted.get(name)!s:.40}" for name in names]
    return "; ".join(told[:4])
