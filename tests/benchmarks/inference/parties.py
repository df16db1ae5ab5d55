"""All that is measured, by name, as the processes of `spawned` make it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cases
import engines
import numpy as np
import spawned
import torch
from options import DICTIONARIES, OURS, TUTORIAL, WORKERS, Options
from others import Dictionaries, Tutorial
from ours import Bare, Node

from inference.bundle import Bundle, open_bundle
from inference.heap import keep_freed_memory


def files(name: str, case_name: str, folder: Path, options: Options) -> None:
    """Be a party that reads files, until the parent closes the pipe."""
    case = cases.found(case_name, folder)
    bundle = open_bundle(folder / "bundles" / case.plan.network)
    with spawned.answering() as answer:
        if name in WORKERS:
            keep_freed_memory()
        try:
            run = _reading(name, case, bundle, folder, options)
            about = run.identity if isinstance(run, Bare) else ""
            spawned.serve(answer, lambda _batch: run(), len(case.files), about)
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            answer({"refused": (str(error).splitlines() or [type(error).__name__])[0]})
            raise


def networks(name: str, network: str, folder: Path, options: Options) -> None:
    """Be a party that runs a network on rows, in batches of the size that the parent says."""
    bundle = open_bundle(folder / "bundles" / network)
    rows = torch.from_numpy(np.load(folder / f"{network}.npy")).to(torch.device(options.device))
    with spawned.answering() as answer:
        if name in WORKERS:
            keep_freed_memory()
        run, about = engines.party(name, bundle, options.device, folder / "engines", options.cores)

        def in_batches(batch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            size = batch or len(rows)
            return np.concatenate([run(part) for part in torch.split(rows, size)])

        spawned.serve(answer, in_batches, len(rows), about)


def _reading(
    name: str, case: cases.Case, bundle: Bundle, folder: Path, options: Options
) -> Callable[[], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    cache = folder / "engines"
    if name == TUTORIAL:
        return Tutorial(case, bundle, options.device)
    if name == DICTIONARIES:
        return Dictionaries(case, bundle, options.device, options.workers)
    node = Node(case, bundle, options.device, cache, options.cores, options.processes)
    if name == OURS:
        return node
    batches = node.prepared()
    node.close()
    return Bare(bundle, batches, options.device, cache, options.cores)
