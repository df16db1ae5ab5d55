"""ONNX Runtime on the CPU: twice as fast as torch there, and no torch is needed to start it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from .engine import EngineIdentity, RawOutputs, Rows, on_host
from .errors import EngineError, ExportError
from .exported import CPU_BATCH, cpu_threads, exported_outputs, typed_error
from .said import said

INPUT = "rows"
# All that the library raises; they have no root of their own below Exception.
RAISED = (
    state.EPFail, state.EngineError, state.Fail, state.InvalidArgument, state.InvalidGraph,
    state.InvalidProtobuf, state.NoModel, state.NoSuchFile, state.NotImplemented,
    state.RuntimeException,
)  # fmt: skip


class OnnxEngine:
    """Runs an exported network.

    Parameters
    ----------
    path : Path
        The exported network.
    class_maps : bool
        Whether its last output are class maps.
    threads : int
        Threads for one batch; 0 is one for each core that the process may use.

    Raises
    ------
    ExportError
        If it cannot be loaded.
    """

    def __init__(self, path: Path, *, class_maps: bool, threads: int = 0) -> None:
        try:
            self._session: Any = onnxruntime.InferenceSession(
                path, _options(threads), providers=["CPUExecutionProvider"]
            )
        except RAISED as error:
            raise ExportError(f"{path} cannot be loaded: {said_by(error)}") from error
        self._class_maps = class_maps
        self._identity = EngineIdentity(
            "onnxruntime", onnxruntime.__version__, "cpu", "float32", CPU_BATCH
        )

    @property
    def identity(self) -> EngineIdentity:
        """What it is."""
        return self._identity

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; see `Engine.run`."""
        given = on_host(rows)
        try:
            outputs = self._session.run(None, {INPUT: given})
        except (*RAISED, MemoryError) as error:
            raise typed_of_onnx(error) from error
        return exported_outputs(outputs, self._class_maps, self._identity.made(len(given)))

    def release(self) -> None:
        """Do nothing: what the library holds is needed for the next batch."""


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_threads(threads)
    options.inter_op_num_threads = 1
    # Threads that wait for the next batch must not take the cores of those that decode it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def typed_of_onnx(error: Exception) -> EngineError:
    """Return an error of ONNX Runtime as one of this room."""
    return typed_error("ONNX Runtime", error, said_by(error))


def said_by(error: Exception) -> str:
    """Return what an error says, in one line."""
    return said((str(error).splitlines() or [""])[0], type(error).__name__)
