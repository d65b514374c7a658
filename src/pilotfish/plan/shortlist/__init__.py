"""Which savers are worth recording, from published accuracy and speed, before anything is recorded."""

from pilotfish.plan.shortlist.estimate import estimate_exit_ratio
from pilotfish.plan.shortlist.rank import Shortlist, ShortlistSaver, shortlist
from pilotfish.plan.shortlist.table import PublishedTable, read_published

__all__ = ["PublishedTable", "Shortlist", "ShortlistSaver", "estimate_exit_ratio", "read_published", "shortlist"]
