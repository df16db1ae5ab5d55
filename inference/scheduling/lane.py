"""The rows of one model that wait, and the batch that is made of them next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .requests import Answers, Batch, Piece, Request
from .turn import Turn


@dataclass(slots=True, eq=False)
class Lane:
    """One model.

    Attributes
    ----------
    model : str
    answers : Answers
    requests : list of Request
        Calls with rows that wait, in the order in which they came.
    users : set of Turn
        Analyses under way that have asked for this model.
    served : float
        Seconds of the device's time that count against it; see `join`.
    """

    model: str
    answers: Answers
    requests: list[Request] = field(default_factory=list)
    users: set[Turn] = field(default_factory=set)
    served: float = 0.0

    @property
    def is_in_use(self) -> bool:
        """Whether an analysis under way has asked for it."""
        return bool(self.users or self.requests)

    def waits(self, stat: bool) -> bool:
        """Tell whether rows of a class wait."""
        return any(request.turn.is_stat == stat for request in self.requests)

    def join(self, request: Request) -> None:
        """Take up a call.

        An analysis that comes, or comes back, has no claim for the time in which it asked for
        nothing: it counts as served no less than the least served of those that wait.
        """
        waiting = [one.turn.served.get(self, 0.0) for one in self.requests]
        own = request.turn.served.get(self, 0.0)
        request.turn.served[self] = max(own, min(waiting, default=own))
        self.requests.append(request)
        self.users.add(request.turn)

    def leave(self, turn: Turn) -> None:
        """Forget an analysis that has ended."""
        self.users.discard(turn)

    def compose(self, stat: bool) -> Batch:
        """Return the next batch of a class of which rows wait; nothing is changed.

        The least served analysis comes first, and of two the one that began first. Beside STAT
        rows, routine ones fill the batch where that costs no time: on a GPU, not on a CPU.
        """
        ordered = self._ordered(stat)
        identity = self.answers.identity
        if stat and identity.device != "cpu":
            ordered += self._ordered(stat=False)
        room, kind = max(1, identity.best_batch), ordered[0].kind
        pieces = []
        for request in ordered:
            if room and request.kind == kind:
                count = min(room, request.left)
                pieces.append(Piece(request, request.taken, request.taken + count))
                room -= count
        return Batch(self.model, self.answers, tuple(pieces), stat)

    def may_fill(self, batch: Batch) -> bool:
        """Tell whether somebody may still bring rows for a batch that has room."""
        if len(batch) >= self.answers.identity.best_batch:
            return False
        # Who has asked is blocked until it is answered.
        asking = {request.turn for request in self.requests}
        return any(turn not in asking for turn in self.users)

    def take(self, batch: Batch) -> None:
        """Take the rows of a batch out of what waits, and count them."""
        for piece in batch.pieces:
            piece.request.taken = piece.stop
        for turn, rows in batch.turns.items():
            turn.served[self] = turn.served.get(self, 0.0) + rows
        self.requests = [request for request in self.requests if request.left]

    def drop(self, requests: Sequence[Request]) -> None:
        """Take out calls whose other rows failed."""
        self.requests = [one for one in self.requests if one not in requests]

    def _ordered(self, stat: bool) -> list[Request]:
        of_class = [request for request in self.requests if request.turn.is_stat == stat]
        return sorted(
            of_class, key=lambda one: (one.turn.served.get(self, 0.0), one.turn.began, one.arrived)
        )
