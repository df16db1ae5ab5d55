"""OpenVINO on the CPU, in float32, from the network that was exported for ONNX Runtime."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from .engine import EngineIdentity
from .errors import ExportError
from .exported import CPU_BATCH, ExportedEngine, cpu_threads
from .said import said


class OpenVinoEngine(ExportedEngine):
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

    library = "OpenVINO"
    raised = (RuntimeError, MemoryError)

    def __init__(self, path: Path, *, class_maps: bool, threads: int = 0) -> None:
        try:
            core: Any = openvino.Core()
            self._compiled: Any = core.compile_model(core.read_model(path), "CPU", _how(threads))
        except RuntimeError as error:
            raise ExportError(f"OpenVINO cannot load {path}: {self.said_by(error)}") from error
        # A request has one memory for its outputs.
        self._local = threading.local()
        identity = EngineIdentity(
            "openvino", str(openvino.__version__).partition("-")[0], "cpu", "float32", CPU_BATCH
        )
        super().__init__(identity, class_maps=class_maps)

    def _outputs(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        request = self._request()
        request.infer([rows], share_inputs=True)
        return [
            np.array(request.get_output_tensor(number).data, dtype=np.float32)
            for number in range(len(self._compiled.outputs))
        ]

    def release(self) -> None:
        """Give back what the library holds for later."""
        self._compiled.release_memory()

    def _request(self) -> Any:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        return self._local.request

    @classmethod
    def said_by(cls, error: Exception) -> str:
        """Return all lines as one: the first says where in the library it was raised."""
        return said(str(error), type(error).__name__)


def _how(threads: int) -> dict[str, object]:
    return {
        # Some processors have a lower precision, which it would take.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": cpu_threads(threads),
        # Pinned threads of two workers would share the same cores.
        "ENABLE_CPU_PINNING": False,
    }
