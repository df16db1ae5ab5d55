"""What a worker finds on its machine: devices, and the engines that run on them. Light: no torch.

`serve_worker` takes one, so that what only a broken machine does can be tried with real processes:
a program of one's own composes a worker with engines that fail. Nothing in the settings or in the
environment reaches this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.engines.choose import Composer


def device_of_torch(setting: str) -> str:
    """Return the device for ``inference.device``; see `inference.device.choose_device`."""
    from inference.device import choose_device

    return choose_device(setting)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine.

    Attributes
    ----------
    device : callable
        Gives the device for ``inference.device``.
    place : callable
        Tells where readers make the input for a device: on that device.
    compose : callable or None
        Gives the engine of a bundle on a device; None: `inference.engines.choose`.
    """

    device: Callable[[str], str] = device_of_torch
    place: Callable[[str], str] = str
    compose: Composer | None = None
