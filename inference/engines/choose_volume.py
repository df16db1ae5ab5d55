"""Which engine runs a bundle of volumes: torch, on the CPU where the GPU does not do it."""

from __future__ import annotations

import torch

from ..bundle import Bundle
from .choose import EngineSettings
from .ladder import Ladder
from .volume_engine import VolumeEngine


def choose_volume_engine(bundle: Bundle, device: torch.device, settings: EngineSettings) -> Ladder:
    """Return the engine of a bundle of kind ``ct_volume``.

    Raises
    ------
    BundleError
        If the bundle's network cannot be built or does not fit its weights.
    """
    if settings.compose is not None:
        return settings.compose(bundle, str(device), settings).engine

    from ..network import load_network  # MONAI: seconds, for those who read volumes alone

    def on(place: torch.device) -> VolumeEngine:
        return VolumeEngine(load_network(bundle, place), place)

    spare = None if device.type == "cpu" else lambda: on(torch.device("cpu"))
    ladder = Ladder(on(device), spare, settings.tell)
    settings.announce(bundle.name, ladder.identity, "")
    return ladder
