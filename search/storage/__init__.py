"""Bytes, whole or not at all, in a folder or at a URL."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.storage.files import checksums, fill, json_object, replace, sweep, sync, user_cache
    from search.storage.layout import (
        ID_FILE,
        JOURNAL,
        PICTURES,
        REPORT,
        STUDY_FILE,
        checkpoint_places,
        delete,
        holds_checkpoints,
        is_reserved,
        names_in,
        stranger,
    )
    from search.storage.lease import Lease
    from search.storage.paths import expanded, fault, resolved
    from search.storage.remote import Output, Remote, is_url, local_copy
    from search.storage.replica import Replica
    from search.storage.scratch import PREFIX, end_writers, folder, home, remove_dead

__all__ = [
    "ID_FILE",
    "JOURNAL",
    "PICTURES",
    "PREFIX",
    "REPORT",
    "STUDY_FILE",
    "Lease",
    "Output",
    "Remote",
    "Replica",
    "checkpoint_places",
    "checksums",
    "delete",
    "end_writers",
    "expanded",
    "fault",
    "fill",
    "folder",
    "holds_checkpoints",
    "home",
    "is_reserved",
    "is_url",
    "json_object",
    "local_copy",
    "names_in",
    "remove_dead",
    "replace",
    "resolved",
    "stranger",
    "sweep",
    "sync",
    "user_cache",
]

__getattr__ = lazy(
    __name__,
    files="checksums fill json_object replace sweep sync user_cache",
    layout=(
        "ID_FILE JOURNAL PICTURES REPORT STUDY_FILE checkpoint_places delete holds_checkpoints is_reserved names_in "
        "stranger"
    ),
    lease="Lease",
    paths="expanded fault resolved",
    remote="Output Remote is_url local_copy",
    replica="Replica",
    scratch="PREFIX end_writers folder home remove_dead",
)
