"""tracking"""

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
