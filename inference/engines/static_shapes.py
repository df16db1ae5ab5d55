"""Batches of a few fixed sizes: a CUDA graph is captured for one shape, and runs no other."""

from __future__ import annotations

from collections.abc import Iterator


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return the sizes of batches to be ready for: powers of two below `largest`, and that.

    So at most half of a batch is padding, and the graphs are few.

    Raises
    ------
    ValueError
        If `largest` is less than 1.
    """
    if largest < 1:
        raise ValueError(f"a batch of {largest} rows is none")
    powers = [1]
    while powers[-1] * 2 < largest:
        powers.append(powers[-1] * 2)
    return tuple(dict.fromkeys((*powers, largest)))


def parts_of(count: int, sizes: tuple[int, ...]) -> Iterator[tuple[slice, int]]:
    """Cut `count` rows into batches.

    Yields
    ------
    slice
        Which rows.
    int
        The smallest size that holds them; what is beyond the rows is padding.
    """
    largest = sizes[-1]
    for start in range(0, count, largest):
        stop = min(start + largest, count)
        yield slice(start, stop), next(size for size in sizes if size >= stop - start)
