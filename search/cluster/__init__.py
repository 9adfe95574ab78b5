"""A study on a cluster: sent as a job, and what the machines need."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.cluster.jobs import check_shared, queue, submit
else:
    __getattr__ = lazy(
        __name__,
        jobs="check_shared queue submit",
    )
