"""cluster"""

from search.cluster.jobs import check_shared, job_server, submit
from search.cluster.nodes import check_cluster

__all__ = ["check_cluster", "check_shared", "job_server", "submit"]
