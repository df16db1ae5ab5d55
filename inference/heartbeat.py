"""How often a worker says that it lives, and how soon its silence means something. Light."""

from __future__ import annotations

BEAT_SECONDS = 5.0
# One or two beats may come late: a busy database, a long sweep, an image that takes all cores.
LEAST_SILENCE_SECONDS = 3 * BEAT_SECONDS
