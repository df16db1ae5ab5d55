"""Which places the settings of destinations mean, and whose results go there.

A destination with ``reply`` stands for as many places as there are peers that may be called back;
each has a queue of its own, named after the destination and the peer's AE title.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from .patterns import AePatterns
from .settings import AeSettings, DestinationSettings

if TYPE_CHECKING:
    from .requestor import Peer


def places(
    destinations: Iterable[DestinationSettings], peers: Sequence[AeSettings]
) -> tuple[DestinationSettings, ...]:
    """Return every place, with an address of its own.

    Parameters
    ----------
    destinations : iterable of DestinationSettings
        As in the settings.
    peers : sequence of AeSettings
        Who may be called back.
    """
    return tuple(place for one in destinations for place in _of(one, peers))


def _of(
    destination: DestinationSettings, peers: Sequence[AeSettings]
) -> Iterator[DestinationSettings]:
    if not destination.reply:
        yield destination
        return
    wanted = AePatterns(destination.from_ae or ("*",))
    for peer in peers:
        if wanted.match(peer.name):
            yield destination.model_copy(
                update={
                    "name": f"{destination.name}:{peer.name}",
                    "ae_title": peer.ae_title or peer.name,
                    "host": peer.host,
                    "port": peer.port,
                    "from_ae": (peer.name,),
                }
            )


def takes_from(place: DestinationSettings, calling_ae: str | None) -> bool:
    """Tell whether results of images from a calling AE title go to a place.

    Parameters
    ----------
    calling_ae : str or None
        None if nobody knows who sent the images: then they only go where everything goes.
    """
    if not place.from_ae:
        return True
    if calling_ae is None:
        return False
    if place.reply:  # it names a peer, in which * would be a character of the title
        return place.from_ae == (calling_ae.strip(" "),)
    return AePatterns(place.from_ae).match(calling_ae)


def peer_of(place: DestinationSettings, calling_ae: str) -> Peer:
    """Return whom to call for a place that is reached by C-STORE.

    Parameters
    ----------
    calling_ae : str
        AE title to call with, unless the settings have one.
    """
    assert place.host is not None, f"{place.name} has no host"
    assert place.port is not None, f"{place.name} has no port"
    assert place.ae_title is not None, f"{place.name} has no AE title"
    from .requestor import Peer  # and with it pynetdicom, for those who send

    return Peer(
        place.host, place.port, place.ae_title, place.calling_ae or calling_ae, place.timeout
    )
