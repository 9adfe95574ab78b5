"""A network of a study, as files that load without it."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.export.bundle import CHAMPION, crown, is_exported, mend
    from search.export.graphs import NotTheSame

__all__ = ["CHAMPION", "NotTheSame", "crown", "is_exported", "mend"]

__getattr__ = lazy(
    __name__,
    bundle="CHAMPION crown is_exported mend",
    graphs="NotTheSame",
)
