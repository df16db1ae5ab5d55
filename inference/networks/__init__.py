"""Networks of this project that a bundle may name, beside those of MONAI and torch."""

from .chest_network import ChestNetwork
from .slice_network import SliceNetwork

__all__ = ["ChestNetwork", "SliceNetwork"]
