"""Where results go: `inference` is handed names, of which only `scp` knows more."""

from __future__ import annotations

from collections.abc import Callable

from db.outcomes import Destined
from scp.places import places, takes_from

from .settings import Settings


def destinations_for(settings: Settings) -> Callable[[str, str | None], tuple[Destined, ...]]:
    """Return what tells where a kind of object goes, by who sent the images."""
    known = places(settings.destination, settings.ae)

    def destined(kind: str, calling_ae: str | None) -> tuple[Destined, ...]:
        return tuple(
            Destined(place.name, place.deadline_hours)
            for place in known
            if kind in place.objects and takes_from(place, calling_ae)
        )

    return destined
