"""Many inputs from one seed; each can be made again alone.

Every input is a function of the seed, the name of its family and its number. A failure names all
three: ``FUZZ_SEED=7 FUZZ_INPUT=1234 pytest -k test_name`` repeats that input and nothing else.
"""

from __future__ import annotations

import base64
import os
import random
import secrets
import zlib
from collections.abc import Callable

SEED = os.environ.get("FUZZ_SEED") or str(secrets.randbits(32))
_ONLY = os.environ.get("FUZZ_INPUT")


class Rng(random.Random):
    """A source of choices that remembers the bytes made from them, for the report of a failure."""

    made = b""

    def chance(self, share: float) -> bool:
        return self.random() < share

    def small(self, most: int) -> int:
        """A number up to `most`, small ones more likely."""
        return min(int(self.expovariate(4 / (most + 1))), most)


def rng_of(family: str, number: int) -> Rng:
    return Rng(f"{SEED}/{family}/{number}")


def run(family: str, n_inputs: int, check: Callable[[Rng], None]) -> int:
    """Check `n_inputs` inputs; return how many were."""
    numbers = [int(_ONLY)] if _ONLY else range(n_inputs)
    done = 0
    for number in numbers:
        rng = rng_of(family, number)
        try:
            check(rng)
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={SEED} FUZZ_INPUT={number} (family {family!r})")
            if rng.made:
                error.add_note(f"unpacked({packed(rng.made)!r})")
            raise
        done += 1
    assert _ONLY or done == n_inputs
    return done


def packed(data: bytes) -> bytes:
    """Bytes as they are kept in a test."""
    return base64.b85encode(zlib.compress(data, 9))


def unpacked(text: bytes) -> bytes:
    return zlib.decompress(base64.b85decode(text))
