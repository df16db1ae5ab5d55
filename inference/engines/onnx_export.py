"""From a network of torch to a file of ONNX that gives the same.

The exporter is torch's older one, by TorchScript: measured on EfficientNet-B0 and DenseNet-121 it
takes 0.7 and 1.0 s where the newer one takes 14 and 180, and it wants the package onnx alone. None
of them needs a compiler.
"""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import torch
from torch import nn

from ..bundle import Bundle
from ..errors import BundleError
from .class_maps import wants_class_maps
from .errors import EngineError, EngineOutOfMemoryError, ExportError
from .onnx_cache import About
from .onnx_engine import INPUT, OnnxEngine
from .parity import DRIFT, drift_of
from .pool_first import rewrite
from .probe_pictures import probe_pictures
from .probes import probes
from .row_by_row import mixes_rows
from .said import said
from .torch_engine import TorchEngine
from .torch_faults import typed

_OPSET = 17
# The exporter keeps state of its own for the whole process.
_EXPORTING = threading.Lock()


def export_checked(bundle: Bundle, network: nn.Module, path: Path) -> About:
    """Export a bundle's network and compare it with torch, on inputs of its shape and on pictures.

    Parameters
    ----------
    bundle : Bundle
    network : torch.nn.Module
        Of the bundle, on the CPU, in evaluation mode.
    path : Path
        Where to write the file.

    Returns
    -------
    About
        What was made; or why it is refused: what cannot be exported, or drifts, is no fault of the
        bundle, which runs on torch then.

    Raises
    ------
    OSError
        If the file cannot be written.
    ExportError
        If there is no memory now: that is no property of the network, and not remembered.
    """
    inputs = (*probes(bundle), probe_pictures(bundle))
    try:
        probe = torch.from_numpy(inputs[0]) if wants_class_maps(bundle) else None
        plain = TorchEngine(network, torch.device("cpu"), probe)
        export(plain.traced, torch.from_numpy(inputs[-1]), path)
        # In the batches that torch has, however many cores there are: the verdict is kept.
        made = OnnxEngine(path, class_maps=plain.has_class_maps, row_by_row=False)
        drift = drift_of(bundle, plain, made, *inputs)
        mixes = mixes_rows(bundle, plain, inputs[1])
    except EngineOutOfMemoryError as error:
        raise ExportError(f"no memory to export: {error}") from error
    except (EngineError, BundleError) as error:
        return About(refused=str(error))
    if not drift <= DRIFT:  # also where it is no number
        return About(refused=f"ONNX Runtime differs from torch by {drift:.2g} of a probability")
    return About(class_maps=plain.has_class_maps, drift=drift, mixes_rows=mixes)


def export(network: nn.Module, rows: torch.Tensor, path: Path) -> None:
    """Write a network as ONNX, for any count of rows.

    Raises
    ------
    ExportError
        If it has parts that cannot be exported, or the package onnx is missing.
    EngineOutOfMemoryError
        If there is not enough memory.
    """
    with _EXPORTING, warnings.catch_warnings(), torch.no_grad():
        # That the exporter is the older one, and that sizes become constants, which they are.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network,
                (rows,),
                path,
                dynamo=False,
                input_names=[INPUT],
                dynamic_axes={INPUT: {0: "count"}},
                opset_version=_OPSET,
            )
            rewrite(path)
        except MemoryError as error:
            raise typed(error) from error
        # Tracing runs the network with tensors in the place of sizes, which may end in anything.
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
            if isinstance(error, RuntimeError) and isinstance(
                known := typed(error), EngineOutOfMemoryError
            ):
                raise known from error
            first = said((str(error).splitlines() or [""])[0], "")
            raise ExportError(
                f"the network cannot be exported: {type(error).__name__}: {first}"
            ) from error
