"""Telling others of chosen findings: a webhook, or an HL7 v2 message over MLLP. Off by default.

Who is to be told is decided when an analysis ends (`rule`) and kept with its outcome, in one
transaction. The `deliver` part of the node sends (`notifier`): each target has a thread of its own,
and a notification is tried until it was accepted or is given up as a dead letter. At every attempt
it says the same, under the same identifier (`identifier`), so that a receiver can drop what it has.

Nobody waits for the report: a target may be told before a PACS holds the structured report that the
message names, because a PACS that is away must not hold up a finding.
"""

from .settings import NotifySettings

__all__ = ["NotifySettings"]
