"""The batches of a reading whose input is made on the device: what readers take from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from ..decode_pool import DecodePool
from ..decoded import Batch
from ..errors import NotAnalysableError
from ..head_seen import HeadSeen
from ..input_spec import InputSpec
from ..pixel_notes import add_fallbacks
from ..reading import SourceImage
from .feed import Feed
from .gpu_codec import codec_on
from .lanes import lane_on
from .steps import FilmSteps, SliceSteps

Frames = Iterable[tuple[SourceImage, int]]
# Of the facts of a reading: how many pictures were uploaded as stored, and why others were not.
FACT = "device_input"


class DeviceReadings:
    """Makes batches on a device.

    Parameters
    ----------
    spec : InputSpec
        For which `choice.is_made_on` holds.
    device : torch.device or str
    decoding : DecodePool
    batch : int
        Rows of a batch.
    facts : dict
        Of the reading; when all batches are taken it gets `FACT`, and which pictures took another
        decoder than the first.
    gpu_decoding : bool
        Whether the device decodes what it can.

    Raises
    ------
    EngineUnavailableError
        If it is to decode and cannot.
    """

    def __init__(
        self,
        spec: InputSpec,
        device: torch.device | str,
        decoding: DecodePool,
        batch: int,
        facts: dict[str, object],
        *,
        gpu_decoding: bool = False,
    ) -> None:
        self._spec = spec
        codec = codec_on(str(device)) if gpu_decoding else None
        self._feed = Feed(spec, lane_on(torch.device(device)), decoding, batch, codec)
        self._facts = facts

    def films(self, frames: Frames, flat: Callable[[], NotAnalysableError]) -> Iterator[Batch]:
        """Yield the batches of films; `flat` gives the error for one without contrast."""
        yield from self._feed.batches(frames, FilmSteps(self._spec, flat), flat)
        self._tell()

    def slices(
        self,
        frames: Frames,
        seen: HeadSeen | None,
        judge: Callable[[bool, HeadSeen | None], None],
    ) -> Iterator[Batch]:
        """Yield the batches of slices; `judge` is told of contrast and heads after the last."""
        steps = SliceSteps(self._spec, seen)
        yield from self._feed.batches(frames, steps)
        self._tell()
        judge(steps.contrast, seen)

    def _tell(self) -> None:
        self._facts[FACT] = dict(self._feed.paths)
        add_fallbacks(self._facts, self._feed.fallbacks)
