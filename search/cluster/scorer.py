"""Which kind of machine Ray's autoscaler starts next: spot, and on-demand where there is no spot.

Version 1 of it asks the function that RAY_AUTOSCALER_UTILIZATION_SCORER names on the head, and remembers failed starts
for AUTOSCALER_NODE_AVAILABILITY_MAX_STALENESS_S, half an hour by default. Left to itself, it goes on asking for the
kind that fits best, also while the cloud has none of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Resources = Mapping[str, float]  # such as CPU -> cores


def score(
    node_resources: Resources, resources: Sequence[Resources], node_type: str, *, node_availability_summary: Any
) -> tuple[bool, float, bool] | None:
    """What kinds of machines are compared by, the larger the better; None where no demand fits.

    A kind whose last start failed stands behind all others. Then comes the one that the demands fill best, and of kinds
    of equal resources the one with `spot` in its name.

    Args:
        node_resources: of a machine of the kind.
        resources: demands.
        node_type: name of the kind.
        node_availability_summary: `node_availabilities`, kind -> `is_available`, by the last start.
    """
    filled = _filled(node_resources, resources)
    last = node_availability_summary.node_availabilities.get(node_type)
    return None if filled is None else (last is None or last.is_available, filled, "spot" in node_type)


def _filled(machine: Resources, demands: Sequence[Resources]) -> float | None:
    """The part of the machine, on average over its resources, that is taken once it has what fits of the demands."""
    left, fits = dict(machine), False
    for demand in demands:
        if all(left.get(kind, 0.0) >= amount for kind, amount in demand.items()):
            fits = True
            for kind, amount in demand.items():
                left[kind] = left.get(kind, 0.0) - amount
    parts = [1 - left[kind] / there for kind, there in machine.items() if there]
    return sum(parts) / len(parts) if fits and parts else None
