"""What an analyst is given besides the database, the files and the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from db.notifications import Notified
from db.outcomes import Destined, Outcome

from .bundle import Bundle
from .objects import DeviceIdentity
from .reading import Reading, SourceImage


class Reads(Protocol):
    """What an analyst needs of a reader."""

    def read(self, images: Sequence[SourceImage]) -> Reading:
        """Return the findings, or raise NotAnalysableError."""


class ReaderSource(Protocol):
    """Gives the loaded reader of a bundle, loading it the first time."""

    def __call__(self, bundle: Bundle) -> Reads:
        """Return the reader."""


@dataclass(frozen=True, slots=True)
class AnalystSettings:
    """What an analyst must know besides images and models.

    Attributes
    ----------
    worker, device : str
        Who analyses, and on what; recorded with each analysis.
    node : DeviceIdentity
        The node, as written into the report.
    destinations : callable
        Where a kind of object goes, by the AE title that sent the images if that is known.
    report_not_analysed : bool
        Whether "not analysed because ..." is delivered as a report too.
    notify : callable
        Who is to be told of an analysis that ends so.
    recorded : callable
        Called after an outcome was stored, with all that is to be delivered of it.
    """

    worker: str
    device: str
    node: DeviceIdentity
    destinations: Callable[[str, str | None], tuple[Destined, ...]]
    report_not_analysed: bool = True
    notify: Callable[[str, Outcome], tuple[Notified, ...]] = lambda _analysis_id, _outcome: ()
    recorded: Callable[[], None] = lambda: None
