"""What the metadata of a Model Zoo bundle say of images and outputs. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .known_labels import label_name

_BACKGROUND = {"background", "bg", "other", "others", "none", "everything_else"}
_SEGMENTS = {"segmentation"}
_CLASSIFIES = {"classification", "labels", "label", "probabilities", "probability"}


class Formats:
    """What ``network_data_format`` of the metadata says of the first input and output."""

    def __init__(self, image: str, given: Mapping[str, Any], made: Mapping[str, Any]) -> None:
        self.image = image
        self._given = given
        self._made = made

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Formats:
        """Return those of ``configs/metadata.json``."""
        formats = metadata.get("network_data_format", {})
        inputs, outputs = formats.get("inputs", {}), formats.get("outputs", {})
        image = next(iter(inputs), "image")
        return cls(image, inputs.get(image, {}), next(iter(outputs.values()), {}))

    @property
    def dimensions(self) -> int:
        """Of space; 0 if it does not say."""
        return len(self._given.get("spatial_shape", ()))

    @property
    def modality(self) -> str:
        """What the images are, in capitals; empty if it does not say."""
        return str(self._given.get("modality", "")).upper()

    @property
    def copies(self) -> int:
        """How often a grey picture is given.

        Raises
        ------
        ValueError
            If its channels are not all the same.
        """
        count, named = self._given.get("num_channels", 1), self._given.get("channel_def", {})
        if count != 1 and len(named) > 1:
            raise ValueError(
                f"the network takes {count} channels ({', '.join(map(str, named.values()))}), and "
                "a picture has one; say kind, size and channels by [model.input]"
            )
        return int(count)

    @property
    def channels(self) -> dict[int, str]:
        """Name of each output that means something."""
        names = {int(key): str(name) for key, name in self._made.get("channel_def", {}).items()}
        return {n: name for n, name in names.items() if label_name(name) not in _BACKGROUND}

    @property
    def has_masks(self) -> bool:
        """Whether it says that the outputs are maps."""
        kind = str(self._made.get("format", "")).lower()
        if kind in _SEGMENTS | _CLASSIFIES:
            return kind in _SEGMENTS
        return bool(self.dimensions) and len(self._made.get("spatial_shape", ())) == self.dimensions
