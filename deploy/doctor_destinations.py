"""The part of `preread doctor` that looks at the destinations: what they answer, and prove."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sqlalchemy as sa

from db import left_over
from scp import Peer
from scp.commitment import COMMITMENT_CONTEXTS
from scp.errors import ScpError
from scp.find import holds_instance
from scp.places import peer_of, places
from scp.requestor import association
from scp.settings import DestinationSettings
from scp.stow import StowChannel
from scp.verify import echo

from .check import Check, Verdict
from .settings import Settings

# Nobody's: the example UID root of PS3.5 Annex C. A PACS that answers says that it has none.
_NOBODY = ("1.2.3.4.5.6.7.8.9",) * 3
_SECONDS = 10.0


def examine_destinations(settings: Settings) -> Iterator[Check]:
    """Yield the checks of the destinations; nothing is sent to them."""
    if not settings.destination:
        yield Check(
            "destinations",
            Verdict.WARNING,
            "none: results stay in the database; add a [[destination]] to send reports to a PACS",
        )
    for one in settings.destination:
        if one.reply and not places([one], settings.ae):
            yield Check(
                "destination",
                Verdict.WARNING,
                f"{one.name} replies to nobody: add an [[ae]] for each sender that wants results",
            )
    for place in places(settings.destination, settings.ae):
        brief = place.model_copy(update={"timeout": min(place.timeout, _SECONDS)})
        if brief.url is not None:
            yield _web(brief)
        else:
            yield _dicom(brief, peer_of(brief, settings.scp.ae_title))


def examine_left_over(settings: Settings, engine: sa.Engine) -> Iterator[Check]:
    """Yield a check for each name of earlier settings that something waits for."""
    destinations = [place.name for place in places(settings.destination, settings.ae)]
    with engine.connect() as connection:
        deliveries = left_over.deliveries_left(connection, destinations)
        notifications = left_over.notifications_left(
            connection, [one.name for one in settings.notify]
        )
    for kind, found in (("destination", deliveries), ("notify", notifications)):
        for name, n in found.items():
            yield Check(
                kind,
                Verdict.WARNING,
                f"{n} wait for {name}, which is not in the settings any more: they are given up at "
                f"their deadlines, or put the [[{kind}]] back",
            )


def _dicom(place: DestinationSettings, peer: Peer) -> Check:
    if (why_not := _why_not(lambda: echo(peer))) is not None:
        return _bad(f"{place.name} ({peer}) does not answer C-ECHO: {why_not}")
    cannot_find = place.proof != "none" and _why_not(lambda: holds_instance(peer, *_NOBODY))
    if cannot_find and place.proof == "find":
        return _bad(
            f"{place.name} ({peer}) answers C-ECHO but no C-FIND: let it know the AE title "
            f'{peer.calling_ae} and allow it queries, or set proof = "none"'
        )
    if place.proof != "commit":
        return Check("destination", Verdict.GOOD, f"{place.name} answers")
    if _why_not(lambda: _offer_commitment(peer)) is None:
        return Check("destination", Verdict.GOOD, f"{place.name} answers, storage commitment too")
    if cannot_find:
        return _bad(
            f"{place.name} ({peer}) takes neither storage commitment nor C-FIND, so nothing can be "
            f'proved: allow the AE title {peer.calling_ae} one of them, or set proof = "none"'
        )
    return Check(
        "destination",
        Verdict.WARNING,
        f"{place.name} ({peer}) takes no storage commitment; C-FIND proves instead: set proof = "
        '"find"',
    )


def _offer_commitment(peer: Peer) -> None:
    with association(peer, COMMITMENT_CONTEXTS):
        pass


def _web(place: DestinationSettings) -> Check:
    def ask() -> None:
        with StowChannel(place).query() as holds:
            holds(*_NOBODY)

    if (why_not := _why_not(ask)) is not None:
        return _bad(f"{place.name} (url) answers no QIDO-RS: {why_not}")
    return Check("destination", Verdict.GOOD, f"{place.name} answers QIDO-RS")


def _bad(message: str) -> Check:
    return Check("destination", Verdict.BAD, message)


def _why_not(action: Callable[[], object]) -> str | None:
    try:
        action()
    except ScpError as error:
        return str(error)
    return None
