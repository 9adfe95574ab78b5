"""data"""

from search.data.prepared import Prepared, Split, check, on_this_machine, prepare

__all__ = ["Prepared", "Split", "check", "on_this_machine", "prepare"]
