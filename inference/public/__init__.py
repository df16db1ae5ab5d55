"""Readers that others publish: fetched by digest, read without running them, made into bundles.

What is known of each stands in a table; nothing is downloaded but when a person asks for it.
"""

from .add import Added, add_model
from .published import Offer, find_offer, offers

__all__ = ["Added", "Offer", "add_model", "find_offer", "offers"]
