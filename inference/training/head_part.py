"""Whether there are patients enough to learn a head over the slices from, and of which labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .split import any_label

# With and without a label. A head fitted to fewer learns those few patients by heart: it says
# never of a label that one or none of them has, and its series then contradict their slices.
LEAST_GROUPS = 5


@dataclass(frozen=True, slots=True)
class HeadPart:
    """What the part that is kept for the head over the slices can teach.

    Attributes
    ----------
    few : mapping of str to (int, int)
        Labels that it cannot teach, and how many of its groups are with and without each.
    taught : bool
        Whether there is a head at all: not without the first label that is served, which stands for
        the others; a series could contradict its own subtypes.
    whom : {"patients", "studies"}
        What a group is.
    """

    few: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    taught: bool = True
    whom: str = "patients"

    @classmethod
    def of(
        cls,
        labels: NDArray[np.uint8],
        groups: NDArray[np.int64],
        names: Sequence[str],
        unlearnt: Collection[str],
        whom: str,
    ) -> HeadPart:
        """Count the groups of the part.

        Parameters
        ----------
        labels : ndarray of uint8, (images, labels)
        groups : ndarray of int64, (images,)
        names : sequence of str
        unlearnt : collection of str
            Labels that are not served, with or without a head.
        """
        codes = np.unique(groups, return_inverse=True)[1]
        of_groups = any_label(codes, labels)
        with_it = of_groups.sum(axis=0, dtype=np.int64)
        counts = {
            name: (int(yes), len(of_groups) - int(yes))
            for name, yes in zip(names, with_it, strict=True)
            if name not in unlearnt
        }
        few = {name: both for name, both in counts.items() if min(both) < LEAST_GROUPS}
        return cls(few, next(iter(counts)) not in few, whom)

    def texts(self) -> Iterator[str]:
        """Yield what to warn of, as a sentence without its full stop; often nothing."""
        if not self.few:
            return
        counts = "; ".join(
            f"{name}: {yes} with and {no} without" for name, (yes, no) in self.few.items()
        )
        needed = f"at least {LEAST_GROUPS} {self.whom} with a label and {LEAST_GROUPS} without it"
        if self.taught:
            yield (
                f"the head over the slices takes {needed}; of these labels it had fewer, and the "
                f"highest slice stands: {counts}"
            )
        else:
            yield (
                f"no head over the slices was trained: it takes {needed}, and its part had fewer "
                f"({counts}); the network of the slices learnt from that part instead, and series "
                "are pooled"
            )
