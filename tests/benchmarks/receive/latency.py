"""How long single requests take, one after the other on an idle peer; in milliseconds."""

from __future__ import annotations

import time
from statistics import median

from load import Association, Target
from phantoms import Image


def echo(target: Target, image: Image, seconds: float) -> float:
    """Return the median time of a C-ECHO on an open association."""
    association = Association(target, image)
    times, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        association.echo()
        times.append(time.perf_counter() - began)
    association.release()
    return median(times) * 1e3


def set_up(target: Target, image: Image, seconds: float) -> float:
    """Return the median time from connecting to A-ASSOCIATE-AC."""
    times, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        association = Association(target, image)
        times.append(time.perf_counter() - began)
        association.release()
    return median(times) * 1e3
