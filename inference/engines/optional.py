"""Engines of packages that few sites have: a bundle or a site asks for one by name, or has none.

Each runs what was exported for ONNX Runtime, and is compared with ONNX Runtime at every start: its
package is not part of what an export is kept under. Light: no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..bundle import Bundle
from ..extras import installed_by
from .engine import Engine
from .errors import EngineError, EngineUnavailableError, ExportError
from .onnx_cache import Exported
from .parity import DRIFT, drift_of
from .probes import probes
from .unavailable import unavailable

if TYPE_CHECKING:
    from .choose import EngineSettings

# A lower precision was validated with the bundle; here it is only seen that it is the same network.
_LOWERED_DRIFT = 0.05

Make = Callable[[Exported, "EngineSettings"], Engine]


class Open(Protocol):
    """`choose.open_exported`."""

    def __call__(self, bundle: Bundle, settings: EngineSettings, make: Make) -> Engine:
        """Return what `make` makes of the exported network of a bundle."""
        ...


def open_optional(bundle: Bundle, device: str, open_: Open, settings: EngineSettings) -> Engine:
    """Return the optional engine that a bundle asks for.

    Raises
    ------
    EngineUnavailableError
        If it cannot be had, or gives something else than ONNX Runtime; the message says why.
    BundleError
        If the bundle's network cannot be built or does not fit its weights.
    """
    wanted = bundle.engine.name
    if find_spec("onnxruntime") is None:
        raise EngineUnavailableError(
            unavailable(bundle, "which runs by the package onnxruntime, and that is not installed")
        )
    if (missing := _missing(wanted, device)) is not None:
        raise EngineUnavailableError(unavailable(bundle, missing))

    def make(exported: Exported, settings: EngineSettings) -> Engine:
        from .onnx_engine import OnnxEngine

        engine = _made(bundle, device, exported, settings)
        plain = OnnxEngine(
            exported.path, class_maps=exported.about.class_maps, threads=settings.threads
        )
        allowed = DRIFT if bundle.engine.precision == "float32" else _LOWERED_DRIFT
        drift = drift_of(bundle, plain, engine, *probes(bundle))
        if not drift <= allowed:  # also where it is no number
            raise ExportError(f"it differs from ONNX Runtime by {drift:.2g} of a probability")
        return engine

    try:
        return open_(bundle, settings, make)
    except EngineUnavailableError:
        raise
    except EngineError as error:
        raise EngineUnavailableError(unavailable(bundle, f"and {error}")) from error


def _missing(wanted: str, device: str) -> str | None:
    """Say what a machine lacks for an engine, and what to do."""
    if wanted == "tensorrt" and not device.startswith("cuda"):
        return f"which needs a GPU of NVIDIA, and the device is {device}"
    return missing_package(wanted)


def missing_package(wanted: str) -> str | None:
    """Say which package an engine lacks, and how it is installed; None if it lacks none."""
    if wanted == "openvino" and find_spec("openvino") is None:
        return f"and its package is not installed: {installed_by('openvino')}"
    if wanted != "tensorrt":
        return None
    from .tensorrt_engine import is_there

    if is_there():
        return None
    return (
        "which needs a GPU of NVIDIA, and this ONNX Runtime is built without it: "
        f"pip uninstall onnxruntime, then {installed_by('tensorrt')}"
    )


def _made(bundle: Bundle, device: str, exported: Exported, settings: EngineSettings) -> Engine:
    with_maps = exported.about.class_maps
    if bundle.engine.name == "openvino":
        from .openvino_engine import OpenVinoEngine

        return OpenVinoEngine(exported.path, class_maps=with_maps, threads=settings.threads)
    from .tensorrt_engine import TensorRtEngine

    spec = bundle.spec
    return TensorRtEngine(
        exported.path,
        number=int(device.partition(":")[2] or 0),
        shape=(spec.channels, spec.size, spec.size),
        class_maps=with_maps,
        precision=bundle.engine.precision,
        largest=settings.largest_batch,
        cache=None if settings.cache is None else _place(bundle, settings.cache),
    )


def _place(bundle: Bundle, engines: Path) -> Path:
    from .tensorrt_cache import TensorRtCache

    try:
        return TensorRtCache(engines).place(bundle)
    except OSError as error:
        raise ExportError(f"what TensorRT builds cannot be stored: {error}") from error
