"""Which kind of machine Ray's autoscaler starts next: spot, and on-demand where there is no spot.

Ray goes on asking for the kind that fits best, also while the cloud has none of it. `score` puts kinds whose last start
failed behind all others; of kinds that fit equally well it prefers those with `spot` in their name. For that to be the
whole choice, kinds must advertise equal resources. RAY_AUTOSCALER_UTILIZATION_SCORER on the head names it, and Ray
forgets a failure after AUTOSCALER_NODE_AVAILABILITY_MAX_STALENESS_S, half an hour by default.
"""

from typing import Any

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer
from ray.autoscaler._private.util import ResourceDict


def score(
    node_resources: ResourceDict,
    resources: list[ResourceDict],
    node_type: str,
    *,
    node_availability_summary: NodeAvailabilitySummary,
) -> tuple[Any, ...] | None:
    """What the autoscaler compares kinds of machines by, the larger the better; None where no demand fits."""
    fit = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if fit is None:
        return None
    last = node_availability_summary.node_availabilities.get(node_type)
    return (last is None or last.is_available, *fit, "spot" in node_type)
