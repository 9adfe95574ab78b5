"""A study in MLflow."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.tracking.client import follow
    from search.tracking.mirror import Outboxes, Tracker, send, tracked_at
    from search.tracking.outbox import (
        ChampionChosen,
        Cursor,
        Dataset,
        Event,
        StudyEnded,
        of_seeds,
        of_trials,
        parse_cursor,
    )
    from search.tracking.pages import application, new_token, serve, with_token
    from search.tracking.server import (
        NoAnswer,
        artifact_root,
        check_reachable,
        chosen,
        default_uri,
        pages_of,
        place,
        store,
    )

__all__ = [
    "ChampionChosen",
    "Cursor",
    "Dataset",
    "Event",
    "NoAnswer",
    "Outboxes",
    "StudyEnded",
    "Tracker",
    "application",
    "artifact_root",
    "check_reachable",
    "chosen",
    "default_uri",
    "follow",
    "new_token",
    "of_seeds",
    "of_trials",
    "pages_of",
    "parse_cursor",
    "place",
    "send",
    "serve",
    "store",
    "tracked_at",
    "with_token",
]

__getattr__ = lazy(
    __name__,
    client="follow",
    mirror="Outboxes Tracker send tracked_at",
    outbox="ChampionChosen Cursor Dataset Event StudyEnded of_seeds of_trials parse_cursor",
    pages="application new_token serve with_token",
    server="NoAnswer artifact_root check_reachable chosen default_uri pages_of place store",
)
