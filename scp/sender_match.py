"""Rules by who sent the images: whether one association fits, and in words why none does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from db.completeness import Sender

from .patterns import AePatterns


def unmatched(
    senders: Collection[Sender], calling: Sequence[str], called: Sequence[str]
) -> str | None:
    """Return why no association fits the AE titles that a rule asks for; None if one does.

    Parameters
    ----------
    senders : collection of Sender
        By which titles the associations that brought the images were asked for (PS3.8 Section
        9.3.2), as far as it is known. One title of the two may be empty: not known.
    calling, called : sequence of str
        Patterns; of none everything fits. Both must fit the same association.
    """
    if not calling and not called:
        return None
    if not senders:
        asked = [
            f"{kind} AE title {', '.join(patterns)}"
            for kind, patterns in (("calling", calling), ("called", called))
            if patterns
        ]
        return f"it is not known who sent it, asked for {' and '.join(asked)}"
    fits_calling, fits_called = AePatterns(calling or ("*",)), AePatterns(called or ("*",))
    if any(fits_calling.match(s.calling_ae) and fits_called.match(s.called_ae) for s in senders):
        return None
    why = [
        _said(kind, titles, patterns)
        for kind, titles, patterns, fits in (
            ("calling", {one.calling_ae for one in senders}, calling, fits_calling),
            ("called", {one.called_ae for one in senders}, called, fits_called),
        )
        if not any(map(fits.match, titles))
    ]
    if why:
        return " and ".join(why)
    pairs = sorted(f"{one.calling_ae} called {one.called_ae}" for one in senders)
    return (
        f"no one association fits both calling AE title {', '.join(calling)} and called AE title "
        f"{', '.join(called)}: {', '.join(pairs)}"
    )


def _said(kind: str, titles: Iterable[str], patterns: Sequence[str]) -> str:
    known, asked = sorted(filter(None, titles)), ", ".join(patterns)
    if not known:
        return f"the {kind} AE title is not known, asked for {asked}"
    several = len(known) > 1
    found = f"{kind} AE title{'s' if several else ''} {', '.join(known)}"
    if len(patterns) > 1:
        return f"{found} {'match' if several else 'matches'} none of {asked}"
    return f"{found} {'do' if several else 'does'} not match {asked}"
