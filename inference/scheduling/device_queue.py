"""One thread for one device: it computes what is chosen, and hands everybody what is theirs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import structlog

from ..engines.engine import RawOutputs, Rows
from ..engines.errors import EngineError, EngineRunError
from ..errors import InferenceError
from .choice import Course, choose
from .giving_way import GivingWay
from .lane import Lane
from .requests import Batch, Request, kind_of
from .turn import Turn, as_current

_log = structlog.get_logger()
# How often it is told how long an analysis has waited for others, while it still does.
_TOLD_SECONDS = 0.5
_ENDS = "the process ends; nothing is computed any more"


class DeviceQueue:
    """All that the models of one device are asked to compute by analyses under way.

    One thread computes: two networks at once would share the same cores or the same GPU, and the
    libraries make a set of threads of their own for each thread that calls them.

    Parameters
    ----------
    wait_seconds : float
        How long a batch may wait for rows of other analyses that fill it.
    heard : callable
        Is told of each batch that was computed, and its seconds, in the thread of the device.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        wait_seconds: float = 0.0,
        heard: Callable[[Batch, float], None] = lambda _batch, _seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wait_seconds = wait_seconds
        self._heard = heard
        self._clock = clock
        self._changed = threading.Condition()
        # Those in use: whoever unloads a model must find no reference to it here.
        self._lanes: set[Lane] = set()
        self._turns: set[Turn] = set()
        self._course = Course()
        self._way = GivingWay(clock)
        self._batch: Batch | None = None
        # When the batch that is computed now began, and when the last one ended.
        self._began = self._ended = 0.0
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @contextmanager
    def turn(
        self,
        analysis_id: str,
        is_stat: bool = False,
        waited: Callable[[float], None] | None = None,
        *,
        alone: bool = False,
    ) -> Iterator[Turn]:
        """Carry out an analysis in this thread for the duration of the block.

        Parameters
        ----------
        analysis_id : str
        is_stat : bool
        waited : callable, optional
            Is told how many seconds it waited for others, each time: its rows for the device, or
            itself between two steps. Where it does both at once both are told.
        alone : bool
            Whether its rows must not stand in one batch with those of others.
        """
        turn = Turn(analysis_id, is_stat, self._clock(), is_alone=alone)
        if waited is not None:
            turn.waited = waited
        turn.pause = partial(self._way.pause, turn)
        turn.gives_way = partial(self._gives_way, turn)
        with self._changed:
            if is_stat and not self._is_stat_under_way():
                self._course.held_since = max(self._course.held_since, turn.began)
            self._turns.add(turn)
        try:
            with self._way.stat() if is_stat else nullcontext(), as_current(turn):
                yield turn
        finally:
            self._way.rest(turn)
            with self._changed:
                self._turns.discard(turn)
                for lane in self._lanes:
                    lane.leave(turn)
                self._lanes = {lane for lane in self._lanes if lane.is_in_use}
                # What waited for it need not any more.
                self._changed.notify_all()

    @property
    def computing(self) -> tuple[str, ...]:
        """The analyses whose rows are computed now."""
        batch = self._batch
        return () if batch is None else tuple(turn.analysis_id for turn in batch.turns)

    @property
    def may_begin(self) -> bool:
        """Whether a routine analysis that begins now would not pause for STAT first."""
        return self._way.may_begin

    def held_up_by(self, analysis_id: str, seconds: float) -> tuple[str, ...]:
        """Return the analyses whose rows are computed now, if these hold up another one, or itself.

        Parameters
        ----------
        analysis_id : str
            One that waits for the device; there are none if it does something else.
        seconds : float
            For so long at least have they been computed; there are none if it is shorter.
        """
        asks = any(one.asks and one.analysis_id == analysis_id for one in tuple(self._turns))
        computing = self.computing
        return computing if asks and self._clock() - self._began >= seconds else ()

    def has(self, turn: Turn) -> bool:
        """Tell whether an analysis is under way here."""
        return turn in self._turns

    def ask(self, turn: Turn, lane: Lane, rows: Rows) -> RawOutputs:
        """Return what the network of a model gives for the rows of an analysis under way.

        Raises
        ------
        InferenceError
            If the queue was closed; else as of `Batcher.run`.
        """
        self._way.rest(turn)
        request = Request(turn, rows, self._clock(), kind_of(rows, turn))
        with self._changed:
            if self._is_closed:
                raise InferenceError(_ENDS)
            self._join(lane, request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="device", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        turn.asks = True
        try:
            while not request.done.wait(_TOLD_SECONDS):
                self._account(request)
        finally:
            turn.asks = False
        self._account(request)
        return request.outputs()

    def hold_nobody(self) -> None:
        """Let routine analyses go on beside STAT from now on: all are to come to their end."""
        self._way.end()

    def close(self) -> None:
        """End the thread; rows that wait get an error. Waits for the batch that is computed."""
        self.hold_nobody()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _join(self, lane: Lane, request: Request) -> None:
        """Take up a call; as of analyses, a model has no claim for time without a request."""
        if not lane.requests:
            busy = [one.served for one in self._lanes if one.requests]
            lane.served = max(lane.served, min(busy, default=lane.served))
        self._lanes.add(lane)
        lane.join(request)

    def _gives_way(self, turn: Turn) -> bool:
        return not turn.is_stat and self._way.is_asked

    def _is_stat_under_way(self) -> bool:
        return any(turn.is_stat for turn in self._turns)

    def _serve(self) -> None:
        try:
            while self._serve_one():
                pass
        except BaseException as error:  # noqa: BLE001 - the boundary of the thread; told to all who wait
            _log.critical("device.thread_failed", error=type(error).__name__)
            self._refuse_all(f"the thread of the device failed ({type(error).__name__})")
        else:
            self._refuse_all(_ENDS)

    def _serve_one(self) -> bool:
        """Compute the next batch; no longer than that does this thread refer to its model."""
        found = self._next()
        if found is None:
            return False
        lane, batch = found
        try:
            self._compute(lane, batch)
        except BaseException:
            # Its rows wait in no lane any more; nobody may wait for them for ever.
            with self._changed:
                lane.requests += [one for one in batch.calls if one not in lane.requests]
            raise
        return True

    def _next(self) -> tuple[Lane, Batch] | None:
        """Wait for the next batch and take it; None when the queue is closed."""
        with self._changed:
            while not self._is_closed:
                choice = choose(
                    self._lanes,
                    self._course,
                    stat_under_way=self._is_stat_under_way(),
                    wait_seconds=self._wait_seconds,
                    now=self._clock(),
                )
                if choice.batch is not None and choice.lane is not None:
                    choice.lane.take(choice.batch)
                    return choice.lane, choice.batch
                self._changed.wait(choice.again)
        return None

    def _compute(self, lane: Lane, batch: Batch) -> None:
        began = self._began = self._clock()
        error: Exception | None = None
        self._batch = batch
        try:
            batch.hand_out(batch.answers.answer(batch.rows))
        except Exception as raised:  # noqa: BLE001 - the boundary of the thread; goes to the callers
            error = raised
        except BaseException as raised:  # noqa: BLE001 - libraries raise such; no caller expects one
            error = EngineError(f"the engine raised {type(raised).__name__}")
        self._batch = None
        ended = self._clock()
        self._heard(batch, ended - began)
        with self._changed:
            self._ended = ended
            lane.served += ended - began
            routine_waits = any(one.waits(stat=False) for one in self._lanes)
            self._course.note(batch, ended - began, ended, routine_waits)
            self._settle(lane, batch, error, began, ended)
            for turn, rows in batch.turns.items():
                turn.rows += rows
                turn.batches += 1
                if turn.first_seconds is None:
                    turn.first_seconds = ended - turn.began

    def _settle(
        self, lane: Lane, batch: Batch, error: Exception | None, began: float, ended: float
    ) -> None:
        calls = batch.calls
        # All rows of a batch failed. Those of one call are judged together with its other rows.
        by_row = isinstance(error, EngineRunError) and len(calls) == 1
        for piece in batch.pieces:
            request = piece.request
            request.computing += ended - began
            request.answered += piece.stop - piece.start
            if isinstance(error, EngineRunError) and by_row:
                request.poisoned |= dict.fromkeys(range(piece.start, piece.stop), error)
            elif error is not None:
                request.error = error
        if error is not None and not by_row:
            lane.drop(calls)
        for request in calls:
            if request.error is not None or request.answered == len(request.rows):
                request.ended = ended
                request.done.set()

    def _account(self, request: Request) -> None:
        """Tell how long a call has waited for batches that ended: others may be stuck."""
        with self._changed:
            until = request.ended if request.done.is_set() else self._ended
            waited = until - request.arrived - request.computing - request.told
            if waited <= 0:
                return
            request.told += waited
        request.turn.waited_seconds += waited
        request.turn.waited(waited)

    def _refuse_all(self, reason: str) -> None:
        """Tell all who wait that nothing comes; who asks after that gets a new thread."""
        with self._changed:
            self._thread, self._batch = None, None
            for lane in self._lanes:
                for request in lane.requests:
                    request.error = InferenceError(reason)
                    request.done.set()
                lane.requests = []
