"""study"""

from search.study.opened import Seen, look
from search.study.preflight import open_elsewhere, planned, within
from search.study.study import Study, check_told, delete_study

__all__ = ["Seen", "Study", "check_told", "delete_study", "look", "open_elsewhere", "planned", "within"]
