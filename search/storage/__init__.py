"""Bytes, whole or not at all, in a folder or at a URL."""
# pyright: reportUnusedImport=false

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.storage import files, layout, paths, replica, scratch
    from search.storage.lease import Lease
    from search.storage.remote import Output, Remote, is_url, local_copy, opened
    from search.storage.replica import Replica
else:
    __getattr__ = lazy(__name__, lease="Lease", remote="Output Remote is_url local_copy opened", replica="Replica")
