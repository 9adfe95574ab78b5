"""export"""

from search.export.bundle import CHAMPION, crown, is_exported, mend
from search.export.graphs import NotTheSame

__all__ = ["CHAMPION", "NotTheSame", "crown", "is_exported", "mend"]
