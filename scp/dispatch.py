"""One round of delivery: what is due together goes out together, then it is proved.

The order is what makes a crash harmless: an object is entered as sent after the destination said
so, a storage commitment before it is asked for. Whatever is lost in between is sent once more,
the same bytes, which a PACS that has them keeps (PS3.4 Section B.2.2).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import sqlalchemy as sa
from pydicom.uid import generate_uid

from db import commitments
from db.deliveries import DueDelivery
from db.errors import DatabaseError
from db.schema import DeliveryState

from .channel import Answer, Channel, Holds, Parcel, Session, lesser_classes
from .errors import FaultError, RefusedError, UnreachableError
from .outcomes import Outcomes
from .parcels import Parcels
from .requestor import Context
from .settings import DestinationSettings

# No more objects are begun when so many time-outs have passed: the lease must not end meanwhile.
_BEGIN_WITHIN = 2.0
_LOOK_SECONDS = 0.25
_Item = tuple[DueDelivery, Parcel]
# A delivery, and why it is not proved.
_Missing = tuple[DueDelivery, str]


class Dispatch:
    """Sends and proves what was claimed.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    settings : DestinationSettings
    channel : Channel
    parcels : Parcels
    outcomes : Outcomes
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        engine: sa.Engine,
        settings: DestinationSettings,
        channel: Channel,
        parcels: Parcels,
        outcomes: Outcomes,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._channel = channel
        self._parcels = parcels
        self._outcomes = outcomes
        self._clock = clock

    def run(self, due: Sequence[DueDelivery]) -> None:
        """Try every delivery once."""
        pending = [one for one in due if one.state != DeliveryState.SENT]
        sent = [one for one in due if one.state == DeliveryState.SENT]
        # What was sent before may have arrived since: then it need not be sent again.
        if sent:
            missing = self._prove(sent)
            if missing is None:
                for one in pending:
                    self._outcomes.released(one)
                return
            pending = [*(one for one, _ in missing), *pending]
        items = [item for one in pending if (item := self._read(one)) is not None]
        if items:
            self._send(items)

    def _read(self, delivery: DueDelivery) -> _Item | None:
        try:
            return delivery, self._parcels.read(delivery)
        except FaultError as error:
            self._outcomes.failed(delivery, f"not sent: {error}", is_final=True)
        except OSError as error:
            self._outcomes.failed(delivery, f"the object cannot be read: {error.strerror}")
        return None

    def _send(self, items: Sequence[_Item]) -> None:
        wants_commitment = self._settings.proof == "commit"
        contexts = [one for _, parcel in items for one in self._contexts(parcel)]
        queue, stored = deque(items), list[DueDelivery]()
        asked: dict[str, DueDelivery] = {}
        refused: list[_Missing] = []
        try:
            with self._channel.open(contexts, commitment=wants_commitment) as session:
                self._store_all(session, queue, stored)
                if wants_commitment and session.commits:
                    self._ask(session, stored, asked, refused)
        except UnreachableError as error:
            self._broken(error, [one for one, _ in queue])
        except RefusedError as error:
            # Not one context is accepted: there is nothing left to fall back to.
            self._outcomes.reached()
            for one, _ in queue:
                self._outcomes.failed(one, str(error), error.status)
        if self._settings.proof == "find":
            self._fail_missing(stored)
        if wants_commitment:
            self._seek_apart(stored, asked, refused)

    def _contexts(self, parcel: Parcel) -> list[Context]:
        lesser = lesser_classes(parcel.context.abstract_syntax)
        if not self._parcels.can_fall_back:
            lesser = ()
        return [parcel.context, *(parcel.in_class(one) for one in lesser)]

    def _store_all(self, session: Session, queue: deque[_Item], stored: list[DueDelivery]) -> None:
        """Send one after the other; what breaks the session stays at the head of the queue."""
        begun = time.monotonic()
        while queue:
            if time.monotonic() - begun > _BEGIN_WITHIN * self._settings.timeout:
                for one, _ in queue:
                    self._outcomes.released(one)
                queue.clear()
                return
            if (delivery := self._store_best(session, queue)) is not None:
                stored.append(delivery)

    def _store_best(self, session: Session, queue: deque[_Item]) -> DueDelivery | None:
        """Send the first of the queue, in the best SOP class that the destination takes."""
        while True:
            delivery, parcel = queue[0]
            if (fault := self._parcels.fault_since(delivery)) is not None:
                queue.popleft()
                self._outcomes.failed(delivery, f"not sent: {fault}", is_final=True)
                return None
            answer = session.store(parcel)
            if answer.status is not None:
                self._outcomes.reached()
            lesser = self._lesser(session, parcel) if answer.is_wrong_class else None
            if lesser is None:
                break
            try:
                queue[0] = self._parcels.in_class(delivery, lesser)
            except FaultError as error:
                queue.popleft()
                self._outcomes.failed(delivery, f"not sent: {error}", is_final=True)
                return None
            except (OSError, DatabaseError) as error:
                queue.popleft()
                text = error.strerror if isinstance(error, OSError) else str(error)
                self._outcomes.failed(delivery, f"no fallback of the report: {text}")
                return None
            self._outcomes.fell_back(queue[0][0], answer.reason)
        queue.popleft()
        return self._stored(delivery, answer)

    def _lesser(self, session: Session, parcel: Parcel) -> str | None:
        if not self._parcels.can_fall_back:
            return None
        classes = lesser_classes(parcel.context.abstract_syntax)
        return next((one for one in classes if session.accepts(parcel.in_class(one))), None)

    def _stored(self, delivery: DueDelivery, answer: Answer) -> DueDelivery | None:
        if not answer.is_stored:
            self._outcomes.failed(delivery, answer.reason, answer.status)
            return None
        assert answer.status is not None, "stored without a status"
        self._outcomes.sent(delivery, answer.status)
        return delivery

    def _broken(self, error: UnreachableError, left: Sequence[DueDelivery]) -> None:
        """Enter that the destination was not reached; the first one left may be the cause."""
        counts = self._outcomes.unreachable(error)
        for number, one in enumerate(left):
            if error.has_begun and number:
                self._outcomes.released(one)
            else:
                self._outcomes.failed(one, str(error), counts=counts)

    def _seek_apart(
        self,
        stored: Iterable[DueDelivery],
        asked: dict[str, DueDelivery],
        refused: list[_Missing],
    ) -> None:
        """Ask on another association where the first one could not, then see to the rest."""
        done = {one.id for one in asked.values()} | {one.id for one, _ in refused}
        unasked = [one for one in stored if one.id not in done]
        if unasked:
            try:
                with self._channel.open((), commitment=True) as session:
                    self._ask(session, unasked, asked, refused)
            except UnreachableError as error:
                self._outcomes.unreachable(error)
            except RefusedError as error:
                refused.extend((one, str(error)) for one in unasked)
            done |= {one.id for one in asked.values()} | {one.id for one, _ in refused}
            # Whatever could not be asked is looked for by C-FIND, when its time comes.
            for one in unasked:
                if one.id not in done:
                    self._outcomes.awaits(one)
        for one in asked.values():
            self._outcomes.awaits(one)
        self._fail_missing([one for one, _ in refused], {one.id: why for one, why in refused})

    def _ask(
        self,
        session: Session,
        stored: Iterable[DueDelivery],
        asked: dict[str, DueDelivery],
        refused: list[_Missing],
    ) -> None:
        """Ask for storage commitment, each object in a transaction of its own; await answers."""
        for one in stored:
            transaction = str(generate_uid(prefix=None))
            with self._engine.begin() as connection:
                commitments.note_sought(connection, transaction, one.id, self._clock())
            try:
                session.ask_commitment(transaction, one.sop_class_uid, one.sop_instance_uid)
            except RefusedError as error:
                with self._engine.begin() as connection:
                    commitments.note_refused(connection, transaction, error.status, self._clock())
                refused.append((one, str(error)))
                continue
            except UnreachableError:
                # It may have been taken before the association broke.
                asked[transaction] = one
                raise
            asked[transaction] = one
        if asked:
            session.listen(self._settings.commit_hold_seconds, self._all_answered(asked))

    def _all_answered(self, asked: dict[str, DueDelivery]) -> Callable[[], bool]:
        waiting, looked = set(asked), 0.0

        def is_over() -> bool:
            nonlocal looked
            if time.monotonic() - looked > _LOOK_SECONDS:
                with self._engine.connect() as connection:
                    waiting.difference_update(
                        [one for one in waiting if commitments.is_answered(connection, one)]
                    )
                looked = time.monotonic()
            return not waiting

        return is_over

    def _fail_missing(
        self, sent: Sequence[DueDelivery], notes: Mapping[int, str] = MappingProxyType({})
    ) -> None:
        """Prove by a query; what cannot be proved has failed."""
        for one, reason in (self._prove(sent, notes) if sent else None) or ():
            self._outcomes.failed(one, f"sent, but {reason}")

    def _prove(
        self, sent: Sequence[DueDelivery], notes: Mapping[int, str] = MappingProxyType({})
    ) -> list[_Missing] | None:
        """Ask which objects are there; return those that are not, None if nobody answered.

        `notes` say, by number of the delivery, why it is not proved in a better way.
        """
        missing: list[_Missing] = []
        left = deque(sent)
        try:
            with self._channel.query() as holds:
                while left:
                    one = left[0]
                    if (why_not := self._why_missing(holds, one)) is None:
                        self._outcomes.committed(one, notes.get(one.id))
                    else:
                        missing.append((one, _joined(notes.get(one.id), why_not)))
                    left.popleft()
        except UnreachableError as error:
            self._broken(error, [*(one for one, _ in missing), *left])
            return None
        except RefusedError as error:
            # It cannot be asked: then to send once more is all that can be done.
            missing += [(one, _joined(notes.get(one.id), str(error))) for one in left]
        self._outcomes.reached()
        return missing

    def _why_missing(self, holds: Holds, sent: DueDelivery) -> str | None:
        try:
            held = holds(sent.study_instance_uid, sent.series_instance_uid, sent.sop_instance_uid)
        except RefusedError as error:
            return str(error)
        return None if held else "a query does not show the object"


def _joined(note: str | None, reason: str) -> str:
    return f"{note}; {reason}" if note else reason
