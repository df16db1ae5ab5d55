"""Which engine runs a bundle: what it asks for, or the fastest that gives what torch gives.

Light: a worker that finds an exported network never imports torch for it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ..bundle import Bundle
from ..engine_spec import EngineSpec
from .engine import Engine, EngineIdentity
from .engine_events import Event, log_event
from .errors import EngineUnavailableError, ExportError
from .ladder import Ladder
from .onnx_cache import Exported, OnnxCache
from .row_by_row import RowByRow, mixes_rows
from .unavailable import unavailable

if TYPE_CHECKING:
    from torch import nn

_log = structlog.get_logger()
# Gives the engine of a bundle on a device.
Composer = Callable[[Bundle, str, "EngineSettings"], "Chosen"]
# What an export takes that nothing else does; runs take the first alone.
_PACKAGES = ("onnxruntime", "onnx")
# Engines of packages that few sites have.
_OPTIONAL = ("openvino", "tensorrt")


def say_nothing(model: str, identity: EngineIdentity, instead: str) -> None:
    """Keep to oneself which engine was chosen: commands print results, and nothing beside them."""


def log_choice(model: str, identity: EngineIdentity, instead: str) -> None:
    """Write into the log which engine runs a model, and why it is not the first choice."""
    _log.info(
        "engine.chosen",
        model=model,
        engine=identity.name,
        device=identity.device,
        precision=identity.precision,
        instead=instead or None,
    )


def by_itself(_model: str, engine: Ladder) -> Engine:
    """Return the engine as it is: whoever calls it has it alone."""
    return engine


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What a site says of its engines.

    Attributes
    ----------
    cache : Path or None
        Folder of exported networks. None: nothing is exported unless a bundle insists on it.
    threads : int
        Threads for one batch on a CPU; 0 is one for each core.
    largest_batch : int
        Rows that a GPU takes at once.
    tell : callable
        Is told when an engine needs help; see `ladder`.
    announce : callable
        Is told which engine runs a model, and why it is not the first choice.
    compose : callable or None
        Gives the engine of a bundle in the place of `choose_engine`: for machines that fail as a
        test wants them to.
    share : callable
        Puts something around the engine of a model by which several analyses share it; see
        `scheduling`.
    gpu_decoding : bool
        Whether a GPU decodes the images that it can, with nvImageCodec.
    """

    cache: Path | None = None
    threads: int = 0
    largest_batch: int = 32
    tell: Callable[[Event], None] = log_event
    announce: Callable[[str, EngineIdentity, str], None] = say_nothing
    compose: Composer | None = None
    share: Callable[[str, Ladder], Engine] = by_itself
    gpu_decoding: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The engine of a bundle.

    Attributes
    ----------
    engine : Ladder
    network : torch.nn.Module or None
        What it runs, where that is a module of torch on the wanted device.
    instead : str
        Why it is not the first choice; empty if it is.
    """

    engine: Ladder
    network: nn.Module | None
    instead: str = ""


def choose_engine(bundle: Bundle, device: str, settings: EngineSettings) -> Chosen:
    """Return the engine that runs the images of a bundle on a device.

    Parameters
    ----------
    bundle : Bundle
        Of images or slices: volumes have no engine.
    device : str
        ``cpu`` or ``cuda:N``.
    settings : EngineSettings

    Raises
    ------
    BundleError
        If the bundle's network cannot be built or does not fit its weights.
    EngineUnavailableError
        If the bundle insists on an engine that cannot be had; the message says why.
    """
    chosen = (settings.compose or _choose)(bundle, device, settings)
    settings.announce(bundle.name, chosen.engine.identity, chosen.instead)
    return chosen


def _choose(bundle: Bundle, device: str, settings: EngineSettings) -> Chosen:
    wanted = bundle.engine.name
    if wanted in _OPTIONAL:
        from .optional import open_optional

        engine = open_optional(bundle, device, open_exported, settings)
        spare = None if device == "cpu" else _spare_of(_unpinned(bundle), settings)
        return Chosen(Ladder(engine, spare, settings.tell), None)
    if wanted == "onnx" or (wanted == "auto" and device == "cpu" and settings.cache is not None):
        try:
            return Chosen(Ladder(open_onnx(bundle, settings), tell=settings.tell), None)
        except ExportError as error:
            if wanted == "onnx":
                raise EngineUnavailableError(unavailable(bundle, f"and {error}")) from error
            return _on_torch(bundle, device, settings, str(error))
    return _on_torch(bundle, device, settings)


def _on_torch(bundle: Bundle, device: str, settings: EngineSettings, instead: str = "") -> Chosen:
    import torch  # seconds; only these engines need it

    from ..network import load_network
    from .class_maps import wants_class_maps
    from .cuda_engine import CudaEngine
    from .probes import probes
    from .torch_engine import TorchEngine

    place = torch.device(device)
    network = load_network(bundle, place)
    wants = wants_class_maps(bundle)
    inputs = probes(bundle)
    probe = torch.from_numpy(inputs[0])
    # In single precision, in which kernels for one row and for several differ by rounding alone.
    mixes = mixes_rows(bundle, TorchEngine(network, place), inputs[1])
    engine: Engine
    if place.type == "cuda" and bundle.engine.name == "auto":
        engine = CudaEngine(
            network,
            place,
            probe,
            precision=bundle.engine.precision,
            largest=settings.largest_batch,
            class_maps=wants,
        )
    else:
        shown = probe if wants else None
        engine = TorchEngine(network, place, shown, precision=bundle.engine.precision)
    if mixes:
        engine = _alone(bundle, engine)
    spare = None if place.type == "cpu" else _spare_of(bundle, settings)
    return Chosen(Ladder(engine, spare, settings.tell), network, instead)


def _spare_of(bundle: Bundle, settings: EngineSettings) -> Callable[[], Engine]:
    """Return what makes the engine for when the GPU does not do it."""
    return lambda: _choose(bundle, "cpu", settings).engine


def _unpinned(bundle: Bundle) -> Bundle:
    """Return a bundle whose engine is any that a CPU has."""
    return replace(bundle, engine=EngineSpec())


def open_onnx(bundle: Bundle, settings: EngineSettings) -> Engine:
    """Return ONNX Runtime with the exported network of a bundle, exporting it the first time.

    Raises
    ------
    ExportError
        If there is none; the message says why.
    BundleError
        If the bundle's network cannot be built or does not fit its weights.
    """
    return open_exported(bundle, settings, _onnx)


def open_exported(
    bundle: Bundle,
    settings: EngineSettings,
    make: Callable[[Exported, EngineSettings], Engine],
) -> Engine:
    """Return an engine made of the exported network of a bundle; see `open_onnx`."""
    if missing := [name for name in _PACKAGES[:1] if find_spec(name) is None]:
        raise ExportError(f"the package {missing[0]} is not installed")
    if settings.cache is not None:
        cache = OnnxCache(settings.cache)
        with cache.in_use():
            return _opened(bundle, _exported(bundle, cache), settings, make)
    # The library reads all of the file at once: it may go.
    with tempfile.TemporaryDirectory(prefix="preread-engine-") as folder:
        return _opened(bundle, _exported(bundle, OnnxCache(Path(folder))), settings, make)


def _opened(
    bundle: Bundle,
    exported: Exported,
    settings: EngineSettings,
    make: Callable[[Exported, EngineSettings], Engine],
) -> Engine:
    if exported.about.refused:
        raise ExportError(exported.about.refused)
    engine = make(exported, settings)
    return _alone(bundle, engine) if exported.about.mixes_rows else engine


def _alone(bundle: Bundle, engine: Engine) -> Engine:
    """Return an engine of a network whose rows must not stand beside others."""
    _log.warning("engine.row_by_row", model=bundle.name, reason="what is beside a row changes it")
    return RowByRow(engine)


def _onnx(exported: Exported, settings: EngineSettings) -> Engine:
    from .onnx_engine import OnnxEngine

    return OnnxEngine(exported.path, class_maps=exported.about.class_maps, threads=settings.threads)


def _exported(bundle: Bundle, cache: OnnxCache) -> Exported:
    if (known := cache.find(bundle)) is not None:
        return known
    # Not remembered as refused: it may be installed tomorrow.
    if find_spec(_PACKAGES[1]) is None:
        raise ExportError(f"the package {_PACKAGES[1]}, which exports, is not installed")
    import torch  # seconds; only the first start pays for it

    from ..network import load_network
    from .onnx_export import export_checked

    network = load_network(bundle, torch.device("cpu"))
    try:
        return cache.keep(bundle, lambda path: export_checked(bundle, network, path))
    except OSError as error:
        raise ExportError(f"the exported network cannot be stored: {error}") from error
