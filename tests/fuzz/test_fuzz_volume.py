"""How much is fuzzed: `inputs.run` asserts that each number is reached, this that they suffice."""

from __future__ import annotations

import test_fuzz_association
import test_fuzz_readers
import test_fuzz_server
import test_fuzz_stream


def test_the_slow_suite_takes_two_hundred_thousand_inputs() -> None:
    readers = [slow for _, (_, slow) in test_fuzz_readers.FAMILIES.values()]
    others = (
        test_fuzz_stream.N_SLOW,
        test_fuzz_association.N_SLOW,
        *test_fuzz_server.N_SLOW.values(),
    )

    assert sum(readers) + sum(others) >= 200_000
