"""Files as a network sees them: decoded in processes, kept as bytes in a mapped file.

Never are all images in memory. What is kept is keyed by the input specification and by the files
themselves, so that nothing stale is ever used; each kept image has a checksum, so that what a crash
left half written is decoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..decode_task import DecodeTask, TaskDecoder
from ..errors import InferenceError, NotAnalysableError
from ..film_contrast import check_contrast
from ..input_spec import InputSpec
from ..model_values import check_range
from ..preprocess import place_radiograph
from ..reading import SourceImage
from ..tensors import prepare_ct, prepare_radiograph
from .layouts import LabelledImages
from .processes import Pool
from .samples import as_bytes

Rows = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_CPU = torch.device("cpu")
# Raised when preparation itself changes: what was kept before is then made anew.
_PREPARATION = 2
# Batches that are under way while one is learnt from.
_AHEAD = 4
_CHUNK = 8
# Of the free space, so that a cache never fills a disk.
_OF_FREE = 0.8
# A checksum of 32 bits, and one more that says that there is one.
_THERE = 1 << 32
_SUM = np.dtype(np.int64)
# A share of all images, and always one of a hundred or more.
MOST_UNREADABLE = 0.01


def prepare_file(path: Path, spec: InputSpec) -> Bytes:
    """Return the input of a network from a file, as bytes: (channels, size, size).

    Opened, decoded and prepared by the functions of a reader; then 0 to 1 becomes 0 to 255.

    Raises
    ------
    InferenceError
        If the file cannot be decoded, its values are not what the network takes, or a film has no
        contrast: what is refused when it is served is nothing to learn from.
    """
    image = TaskDecoder().decode(DecodeTask(SourceImage(0, "", "", "", path), 0, spec))
    if spec.kind == "ct_slices":
        return as_bytes(prepare_ct([image.plane], spec, _CPU)[0])
    check_range(image, spec)
    place = place_radiograph(image.plane, spec)
    prepared = prepare_radiograph(image.plane, spec, _CPU, place, image.full_range)
    check_contrast(image.plane, prepared, place)
    return as_bytes(prepared[0])


class InputCache:
    """Prepared inputs in a mapped file: those of the first images, as many as there is room for.

    They are read through the mapping and written by calls: a full disk is then an error that can be
    caught, where a store into a mapping would end the process.

    Parameters
    ----------
    path : Path
        The file, ``.u8``; checksums stand beside it in ``.sums``, 0 where there is no input yet.
    shape : tuple of int
        How many are kept, and channels, rows and columns of each.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._each = int(np.prod(shape[1:]))
        self._kept = self._room = shape[0]
        if not self._kept:
            return
        sums = path.with_suffix(".sums")
        self._files = [os.open(one, os.O_RDWR | os.O_CREAT, 0o600) for one in (path, sums)]
        # New places are zero and take no room on disk.
        os.ftruncate(self._files[0], self._kept * self._each)
        os.ftruncate(self._files[1], self._kept * _SUM.itemsize)
        self._inputs: Bytes = np.memmap(path, np.uint8, "r", shape=shape)
        self._sums: Rows = np.memmap(sums, _SUM, "r", shape=(self._kept,))

    @classmethod
    def open(cls, folder: Path, key: str, images: int, spec: InputSpec, limit: int) -> Self:
        """Open or make the cache in `folder`; one of another `key` is removed.

        Parameters
        ----------
        limit : int
            Bytes; less if the disk has no room.
        """
        path = folder / f"inputs-{key[:16]}.u8"
        for other in folder.glob("inputs-*"):
            if not other.name.startswith(path.stem):
                other.unlink()
        shape = (spec.channels, spec.size, spec.size)
        held = path.stat().st_size if path.is_file() else 0
        room = min(limit, max(held, int(_OF_FREE * shutil.disk_usage(folder).free)))
        return cls(path, (min(images, room // int(np.prod(shape))), *shape))

    def get(self, row: int) -> Bytes | None:
        """Return the input of an image, or None if it is not there or not whole."""
        if row >= self._kept or not self._sums[row]:
            return None
        found: Bytes = np.array(self._inputs[row])
        return found if int(self._sums[row]) == _sum(found) else None

    def put(self, row: int, prepared: Bytes) -> None:
        """Keep the input of an image if there is room for it."""
        if row >= self._room:
            return
        try:
            self._write(0, row * self._each, prepared.tobytes())
            self._write(1, row * _SUM.itemsize, _SUM.type(_sum(prepared)).tobytes())
        except OSError:
            self._room = 0  # the disk is full: what is not kept is decoded again

    def close(self) -> None:
        """Close the files; nothing can be read or kept any more."""
        if self._kept:
            self._kept = self._room = 0
            del self._inputs, self._sums
            for file in self._files:
                os.close(file)

    def _write(self, number: int, place: int, content: bytes) -> None:
        if os.pwrite(self._files[number], content, place) != len(content):
            raise OSError("the disk is full")


def cache_key(spec: InputSpec, data_digest: str) -> str:
    """Return what prepared inputs depend on: specification, preparation and files."""
    text = json.dumps([_PREPARATION, spec.to_dict(), data_digest], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class PreparedImages:
    """The inputs of a data set, in any order, whenever they are asked for.

    Parameters
    ----------
    images : LabelledImages
    spec : InputSpec
    cache : InputCache
    pool : Pool
        Processes that decode; the result does not depend on their number.
    on_unreadable : callable, optional
        Called with the file that cannot be decoded and the reason, once for each.
    """

    def __init__(
        self,
        images: LabelledImages,
        spec: InputSpec,
        cache: InputCache,
        pool: Pool,
        on_unreadable: Callable[[Path, str], None] = lambda path, reason: None,
    ) -> None:
        self._images, self._spec, self._cache, self._pool = images, spec, cache, pool
        self._on_unreadable = on_unreadable
        self._unreadable: set[int] = set()

    @property
    def unreadable(self) -> frozenset[int]:
        """Images that were asked for and cannot be decoded."""
        return frozenset(self._unreadable)

    def batches(self, order: Iterable[Rows]) -> Iterator[tuple[Rows, torch.Tensor]]:
        """Yield the inputs of each batch of rows; rows that cannot be decoded are left out.

        Yields
        ------
        tuple
            The rows that are there, and their inputs as bytes: (rows, channels, size, size).

        Raises
        ------
        InferenceError
            If more than one image in a hundred cannot be decoded.
        """
        waiting: deque[tuple[Rows, Callable[[], dict[int, Bytes]]]] = deque()
        for rows in order:
            waiting.append((rows, self._begin(rows)))
            if len(waiting) > _AHEAD:
                yield self._stacked(*waiting.popleft())
        while waiting:
            yield self._stacked(*waiting.popleft())

    def _begin(self, rows: Rows) -> Callable[[], dict[int, Bytes]]:
        """Begin to decode what the cache does not have; return what gives all of the batch."""
        found = {row: self._cache.get(row) for row in map(int, rows)}
        lacking = [r for r, one in found.items() if one is None and r not in self._unreadable]
        chunks = [lacking[i : i + _CHUNK] for i in range(0, len(lacking), _CHUNK)]
        results = [
            self._pool.submit(
                _prepare_chunk, [str(self._images.path(r)) for r in chunk], self._spec
            )
            for chunk in chunks
        ]

        def complete() -> dict[int, Bytes]:
            whole = {row: one for row, one in found.items() if one is not None}
            for chunk, result in zip(chunks, results, strict=True):
                for row, prepared in zip(chunk, result(), strict=True):
                    if isinstance(prepared, str):
                        self._leave_out(row, prepared)
                    else:
                        self._cache.put(row, prepared)
                        whole[row] = prepared
            return whole

        return complete

    def _stacked(
        self, rows: Rows, complete: Callable[[], dict[int, Bytes]]
    ) -> tuple[Rows, torch.Tensor]:
        whole = complete()
        there = np.array([row for row in rows if int(row) in whole], dtype=np.int64)
        shape = (0, self._spec.channels, self._spec.size, self._spec.size)
        stacked = np.stack([whole[int(row)] for row in there]) if len(there) else np.zeros(shape)
        return there, torch.from_numpy(stacked.astype(np.uint8, copy=False))

    def _leave_out(self, row: int, reason: str) -> None:
        if row in self._unreadable:
            return
        self._unreadable.add(row)
        self._on_unreadable(self._images.path(row), reason)
        if len(self._unreadable) > max(MOST_UNREADABLE * len(self._images), len(self) >= 100):
            raise InferenceError(
                f"{len(self._unreadable)} of {len(self._images)} images cannot be used, the "
                f"last of them {self._images.path(row)}: {reason}"
            )

    def __len__(self) -> int:
        """Return how many images there are, those that cannot be decoded included."""
        return len(self._images)


def _prepare_chunk(paths: list[str], spec: InputSpec) -> list[Bytes | str]:
    """Return each input, or why there is none."""
    found: list[Bytes | str] = []
    for path in paths:
        try:
            found.append(prepare_file(Path(path), spec))
        except NotAnalysableError as error:
            found.append(str(error))
    return found


def _sum(prepared: Bytes) -> int:
    return _THERE | zlib.crc32(prepared.tobytes())
