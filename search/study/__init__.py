"""A study from its specification to its answer."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.study.opened import Seen, look
    from search.study.preflight import open_elsewhere, planned, within
    from search.study.study import Study, check_told, delete_study

__all__ = ["Seen", "Study", "check_told", "delete_study", "look", "open_elsewhere", "planned", "within"]

__getattr__ = lazy(
    __name__,
    opened="Seen look",
    preflight="open_elsewhere planned within",
    study="Study check_told delete_study",
)
