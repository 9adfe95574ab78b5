"""A study in MLflow."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.tracking.client import follow
    from search.tracking.mirror import Outboxes, Tracker, send, tracked_at
    from search.tracking.outbox import ChampionChosen, Dataset, Event, StudyEnded, of_seeds, of_trials, read_cursor
    from search.tracking.pages import application, new_token, serve, with_token
    from search.tracking.server import (
        NoAnswer,
        artifact_root,
        check_reachable,
        chosen,
        compare_url,
        default_uri,
        place,
        store,
        view_url,
    )
    from search.tracking.views import SEEDS

__all__ = [
    "SEEDS",
    "ChampionChosen",
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
    "compare_url",
    "default_uri",
    "follow",
    "new_token",
    "of_seeds",
    "of_trials",
    "place",
    "read_cursor",
    "send",
    "serve",
    "store",
    "tracked_at",
    "view_url",
    "with_token",
]

__getattr__ = lazy(
    __name__,
    client="follow",
    mirror="Outboxes Tracker send tracked_at",
    outbox="ChampionChosen Dataset Event StudyEnded of_seeds of_trials read_cursor",
    pages="application new_token serve with_token",
    server="NoAnswer artifact_root check_reachable chosen compare_url default_uri place store view_url",
    views="SEEDS",
)
