"""ONNX Runtime on the CPU: twice as fast as torch there, and no torch is needed to start it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from .engine import EngineIdentity
from .errors import ExportError
from .exported import CPU_BATCH, ExportedEngine, cpu_threads

INPUT = "rows"
# All that the library raises; they have no root of their own below Exception.
RAISED = (
    state.EPFail, state.EngineError, state.Fail, state.InvalidArgument, state.InvalidGraph,
    state.InvalidProtobuf, state.NoModel, state.NoSuchFile, state.NotImplemented,
    state.RuntimeException,
)  # fmt: skip


class OnnxEngine(ExportedEngine):
    """Runs an exported network.

    Parameters
    ----------
    path : Path
        The exported network.
    class_maps : bool
        Whether its last output are class maps.
    threads : int
        Threads for one batch; 0 is one for each core that the process may use.
    row_by_row : bool, optional
        Whether rows are passed one by one; by default where there is one thread.

    Raises
    ------
    ExportError
        If it cannot be loaded.
    """

    library = "ONNX Runtime"
    raised = (*RAISED, MemoryError)

    def __init__(
        self,
        path: Path,
        *,
        class_maps: bool,
        threads: int = 0,
        row_by_row: bool | None = None,
    ) -> None:
        try:
            self._session: Any = onnxruntime.InferenceSession(
                path, _options(threads), providers=["CPUExecutionProvider"]
            )
        except RAISED as error:
            raise ExportError(f"{path} cannot be loaded: {self.said_by(error)}") from error
        identity = EngineIdentity(
            "onnxruntime", onnxruntime.__version__, "cpu", "float32", CPU_BATCH
        )
        super().__init__(identity, class_maps=class_maps)
        self._row_by_row = cpu_threads(threads) == 1 if row_by_row is None else row_by_row

    def _outputs(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = self._session.run(None, {INPUT: rows})
        return outputs

    def _at_once(self, rows: int) -> int:
        # What passes from layer to layer is at hand for one row, and not for four: that takes three
        # times the memory, and longer where memory is slow. Who hands rows over does so less often.
        return min(rows, 1) if self._row_by_row else rows


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_threads(threads)
    options.inter_op_num_threads = 1
    # Threads that wait for the next batch must not take the cores of those that decode it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
