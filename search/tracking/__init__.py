"""A study in MLflow."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.tracking import events
    from search.tracking.mirror import Outboxes, Tracker
    from search.tracking.outbox import Cursor, parse_cursor
    from search.tracking.pages import Pages, PageServer
    from search.tracking.store import NoAnswer, Store
else:
    __getattr__ = lazy(
        __name__,
        mirror="Outboxes Tracker",
        outbox="Cursor parse_cursor",
        pages="PageServer Pages",
        store="NoAnswer Store",
    )
