"""Disclosure control: a table -> a suppressed table; finished files -> a list of leaks, or a refusal.

Three things never leave: groups with fewer people than the agreed minimum, values of an id column, and paths
that name a machine or its user. Tables are suppressed while they are made; the scan of the finished files is
the second lock, and knows nothing of how they were made.
"""

from ldlab.disclosure.ids import searchable
from ldlab.disclosure.leaks import ID_VALUES, DisclosureError, Leak, refuse
from ldlab.disclosure.scan import scan_folder
from ldlab.disclosure.suppression import suppress

__all__ = ["ID_VALUES", "DisclosureError", "Leak", "refuse", "scan_folder", "searchable", "suppress"]
