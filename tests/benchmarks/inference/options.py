"""How to measure, and the names of those that read files."""

from __future__ import annotations

from dataclasses import dataclass

from clock import Spent

OURS, BARE, DICTIONARIES, TUTORIAL = "Preread", "bare network", "MONAI dictionaries", "tutorial"
PARTIES = (OURS, BARE, DICTIONARIES, TUTORIAL)
# Torch as it comes, and with the layout of memory that is best for most convolutions.
ENGINE, PLAIN, CHANNELS_LAST, WITHOUT_MAPS = (
    "engine",
    "torch, eager",
    "torch, eager, channels_last",
    "engine without class maps",
)
# They have the memory of the node's worker.
WORKERS = (OURS, BARE, ENGINE, WITHOUT_MAPS)
PARTS = ("files", "engines", "start")


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes
    ----------
    cores : int
        Of each process; one thread of a network, and one worker of a DataLoader, for each.
    processes : int
        That decode for the node.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    rounds: int
    device: str
    cores: int
    processes: int
    slices: int = 0
    films: int = 0

    @property
    def workers(self) -> int:
        """Of a DataLoader."""
        return self.cores if self.cores > 1 else 0

    @property
    def is_by_processor(self) -> bool:
        """Whether the time of the processor counts: one core does everything."""
        return self.cores == 1 and not self.processes and self.device == "cpu"

    def by(self, spent: Spent) -> float:
        """Return what counts."""
        return spent.cpu if self.is_by_processor else spent.wall

    @property
    def arguments(self) -> list[str]:
        """The same for a command of a process that takes part."""
        return [
            "--device", self.device, "--cores", str(self.cores), "--pool", str(self.processes),
        ]  # fmt: skip
