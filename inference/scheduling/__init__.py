"""Who is computed next: one thread for each device, batches across studies, STAT first.

::

    analysis (a thread) -- rows --> Batcher of its model --> DeviceQueue --> Ladder of that model
                        <- results -                          (one thread)
             `-- yield_to_stat, between all other steps --> GivingWay

Light: neither torch nor ONNX Runtime. Without a turn (`DeviceQueue.turn`) a batcher is its ladder.
"""

from .batcher import Batcher
from .device_queue import DeviceQueue
from .turn import Turn, yield_to_stat

__all__ = ["Batcher", "DeviceQueue", "Turn", "yield_to_stat"]
