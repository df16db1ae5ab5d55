"""Senders that go on: each resends what was not acknowledged, and remembers what was."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from encoded import image, sha256
from node_process import Node
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE, Instance
from raw_scu import Gone, RawAssociation, Rejected

_CONTEXTS = ((CT_IMAGE, EXPLICIT_LITTLE),)
_AGAIN_SECONDS = 0.02


def store_one(node: Node, *names: object) -> None:
    """Send the image of these names in an association of its own, which must succeed."""
    with RawAssociation(node.port, _CONTEXTS) as opened:
        assert opened.store(image(*names)) == 0


def mixed(sender: int, number: int) -> Instance:
    """Small and medium images, of as many series as there are senders."""
    n_bytes = random.Random(f"{sender}/{number}").choice((2_000, 20_000, 60_000, 400_000))
    return image(sender, number, n_bytes=n_bytes, study=sender, series=sender)


class Senders:
    """Some threads that send one image after another until told to stop.

    Parameters
    ----------
    port : int
    n_senders : int
    make : callable
        Returns the image to send; asked with the number of the sender and of the image.
    per_association : int
        Images after which an association is released.
    timeout : float
        Seconds to wait for an answer.
    per_sender : int, optional
        Stop after so many acknowledged images of each sender.
    gives_up : callable
        Given the number of a sender, whether it goes on to the next image when one was not
        answered; otherwise it sends that again.

    Attributes
    ----------
    acknowledged : dict
        SHA-256 of the data set by SOP Instance UID, of every image answered with success.
    statuses : Counter
        Every status answered.
    rejections : Counter
        Every A-ASSOCIATE-RJ, as (result, source, reason).
    n_resent, n_broken, n_unanswered : int
        Images not acknowledged, connections that ended early or could not be made, answers that
        did not come in time.
    seconds : list of float
        From request to success, of each acknowledged image.
    """

    def __init__(
        self,
        port: int,
        n_senders: int = 8,
        make: Callable[[int, int], Instance] = mixed,
        *,
        per_association: int = 25,
        timeout: float = 30.0,
        per_sender: int | None = None,
        gives_up: Callable[[int], bool] = lambda sender: False,
    ) -> None:
        self._port = port
        self._make = make
        self._per_association = per_association
        self._timeout = timeout
        self._limit = per_sender
        self._gives_up = gives_up
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self.acknowledged: dict[str, str] = {}
        self.statuses: Counter[int] = Counter()
        self.rejections: Counter[tuple[int, int, int]] = Counter()
        self.n_resent = self.n_broken = self.n_unanswered = 0
        self.seconds: list[float] = []
        self._threads = [
            threading.Thread(target=self._send, args=(sender,), name=f"sender-{sender}")
            for sender in range(n_senders)
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every sender finish the image that it is at."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until `per_sender` images of each are acknowledged."""
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def _send(self, sender: int) -> None:
        number = 0
        one = self._make(sender, number)
        while not self._stop.is_set() and number != self._limit:
            try:
                with RawAssociation(
                    self._port, _CONTEXTS, calling=f"SENDER{sender}", timeout=self._timeout
                ) as opened:
                    for _ in range(self._per_association):
                        if self._gives_up(sender):
                            number, one = number + 1, self._make(sender, number + 1)
                            self._store(opened, one)
                        elif self._store(opened, one):
                            number, one = number + 1, self._make(sender, number + 1)
                        if self._stop.is_set() or number == self._limit:
                            break
            except Rejected as rejected:
                self._note(rejections=rejected.answer)
            except TimeoutError:
                self._note(n_unanswered=1)
            except (Gone, OSError):
                self._note(n_broken=1)
            time.sleep(_AGAIN_SECONDS)

    def _store(self, opened: RawAssociation, one: Instance) -> bool:
        started = time.monotonic()
        acknowledged = False
        try:
            status = opened.store(one)
            acknowledged = status == 0
        finally:
            if not acknowledged:
                self._note(n_resent=1)
        with self._guard:
            self.statuses[status] += 1
            if acknowledged:
                self.acknowledged[one.sop_instance_uid] = sha256(one)
                self.seconds.append(time.monotonic() - started)
        if not acknowledged:
            self._stop.wait(_AGAIN_SECONDS)
        return acknowledged

    def _note(self, rejections: tuple[int, int, int] | None = None, **counts: int) -> None:
        with self._guard:
            if rejections is not None:
                self.rejections[rejections] += 1
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)
