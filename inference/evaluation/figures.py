"""A figure: a number, how sure it is, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes
    ----------
    value : float or None
        None where it is not defined.
    low, high : float or None
        Ends of the 95 % interval, None where none can be given.
    reason : str
        Why there is no value, or no interval; empty where both are there.
    method : str
        How the interval was made: ``wilson``, ``bootstrap`` or empty.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    method: str = ""

    def text(self, digits: int = 3) -> str:
        """Return the figure as people read it: ``0.912 (0.870 to 0.945)``; ``-`` for none."""
        if self.value is None:
            return "-"
        shown = f"{self.value:.{digits}f}"
        if self.low is None or self.high is None:
            return shown
        return f"{shown} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            **({"interval": self.method} if self.method else {}),
            **({"reason": self.reason} if self.reason else {}),
        }
