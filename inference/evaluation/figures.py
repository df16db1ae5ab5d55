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

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            **({"interval": self.method} if self.method else {}),
            **({"reason": self.reason} if self.reason else {}),
        }


def resampled_figure(
    value: float | None, interval: tuple[float, float] | None, undefined: str
) -> Figure:
    """Return a figure whose interval comes from resampling patients.

    Where every resample has the same value, as of an AUC of 1, it has none: that nothing varied
    among these images does not say that nothing would.

    Parameters
    ----------
    value : float or None
    interval : (float, float) or None
        None where there are too few patients for one.
    undefined : str
        Why there is no value, if there is none.
    """
    if value is None:
        return Figure(None, reason=undefined)
    if interval is None:
        return Figure(value, reason="too few patients for an interval")
    if interval[0] == interval[1]:
        return Figure(value, reason="no resample differs, which makes no interval")
    return Figure(value, *interval, method="bootstrap")
