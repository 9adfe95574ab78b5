"""A study in MLflow."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.tracking.client import ranked
    from search.tracking.cursor import Cursor
    from search.tracking.mirror import Mirror
    from search.tracking.pages import Pages, PageServer
    from search.tracking.shown import Source, tested
    from search.tracking.store import NoAnswer, Store
else:
    __getattr__ = lazy(
        __name__,
        client="ranked",
        cursor="Cursor",
        mirror="Mirror",
        pages="PageServer Pages",
        shown="Source tested",
        store="NoAnswer Store",
    )
