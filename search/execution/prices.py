"""What the nodes of a cluster cost: each says it by a label, such as `usd-per-hour: "1.01"`, in Ray's node table.

`ray up` takes labels of a node type from cluster.yaml, `ray start` takes them by `--labels`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.errors import InputError
from search.spec import SearchSpec

PER_HOUR = "-per-hour"  # the end of the label; before it the currency


def hourly(nodes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Currency -> what the nodes (as `ray.nodes()` has them) that are alive cost an hour, as far as they say."""
    total = dict[str, float]()
    for node in nodes:
        for label, value in (node["Labels"] if node["Alive"] else {}).items():
            price = _number(value)
            if label.endswith(PER_HOUR) and price is not None:
                currency = label.removesuffix(PER_HOUR).upper()
                total[currency] = total.get(currency, 0.0) + price
    return total


def check(search: SearchSpec, nodes: Sequence[Mapping[str, Any]], plan: Mapping[str, Any]) -> None:
    """Refuses a budget of money where a node, or a type of nodes that the autoscaler may start, has no price.

    Args:
        search: what is asked.
        nodes: as `ray.nodes()` has them.
        plan: of the autoscaler, as `ray up` leaves it on the head; {} where there is none.

    Raises:
        InputError: that is so.
    """
    if search.money is None:
        return
    label = f"{search.money[1].lower()}{PER_HOUR}"
    types: Mapping[str, Mapping[str, Any]] = plan.get("available_node_types") or {}
    used = {name: kind for name, kind in types.items() if kind.get("max_workers", 1) or name == plan["head_node_type"]}
    there = {f"node {node['NodeManagerAddress']}": node["Labels"] for node in nodes if node["Alive"]}
    for name, labels in {**there, **{f"type {name}": kind.get("labels") or {} for name, kind in used.items()}}.items():
        if _number(labels.get(label)) is None:
            raise InputError(
                f"search.max_cost = {search.max_cost}, but {name} does not say what it costs; give it the label "
                f"{label} (docs/cluster.md), or set search.time_budget instead"
            )


def _number(value: object) -> float | None:
    """A price; None for what is none."""
    try:
        price = float(str(value))
    except ValueError:
        return None
    return price if 0 <= price < math.inf else None
