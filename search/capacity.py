"""How much a cluster has, and can come to have: its autoscaler starts nodes only once trials wait for them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

# Where `ray up` leaves on the head what the autoscaler works with, the resources of each type filled in.
AUTOSCALING = Path("~/ray_bootstrap_config.yaml")

JOIN_SECONDS = 45.0  # `ray up` has ended when the last machines are still starting Ray

Amount = tuple[float, float]  # CPU cores, GPUs


def most(nodes: Sequence[dict[str, Any]], autoscaling: Path = AUTOSCALING) -> Amount:
    """What the cluster of these nodes (as `ray.nodes()` has them) has at its largest.

    What the autoscaler may add is known on the head, where a submitted study runs; elsewhere the nodes count that there
    are now.
    """
    (cores, gpus), (more_cores, more_gpus) = _now(nodes), _planned(autoscaling.expanduser())
    return max(cores, more_cores), max(gpus, more_gpus)


def joined(
    nodes: Callable[[], list[dict[str, Any]]], autoscaling: Path = AUTOSCALING, seconds: float = JOIN_SECONDS
) -> list[dict[str, Any]]:
    """What `nodes` (`ray.nodes`) gives once all machines are there that `ray up` starts whether trials wait or not.

    Those that have not come after `seconds` are not waited for: one of them may be broken.
    """
    end = time.monotonic() + seconds
    expected = _promised(autoscaling.expanduser())
    while sum(node["Alive"] for node in nodes()) < expected and time.monotonic() < end:
        time.sleep(0.5)
    return nodes()


def machines(nodes: Sequence[dict[str, Any]], autoscaling: Path = AUTOSCALING) -> int:
    """On how many machines trials may run; nodes of one address are one machine."""
    there = len({node["NodeManagerAddress"] for node in nodes if node["Alive"]})
    return there + (most(nodes, autoscaling) != _now(nodes))


def _now(nodes: Sequence[dict[str, Any]]) -> Amount:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return sum(has.get("CPU", 0.0) for has in alive), sum(has.get("GPU", 0.0) for has in alive)


def _promised(file: Path) -> int:
    """The head, and the fewest workers of each type; for a list of machines that is all of them."""
    if not file.is_file():
        return 0
    types: dict[str, Any] = yaml.safe_load(file.read_text()).get("available_node_types") or {}
    return 1 + sum(int(kind.get("min_workers", 0)) for kind in types.values())


def _planned(file: Path) -> Amount:
    """What the workers have when there are as many as there may be."""
    if not file.is_file():
        return 0.0, 0.0
    plan = yaml.safe_load(file.read_text())
    types: dict[str, Any] = plan.get("available_node_types") or {}
    workers = [kind for name, kind in types.items() if name != plan.get("head_node_type")]
    return _filled(workers, int(plan["max_workers"]), "CPU"), _filled(workers, int(plan["max_workers"]), "GPU")


def _filled(workers: Sequence[dict[str, Any]], limit: int, kind: str) -> float:
    """All types share one limit: those with most of a kind count first."""
    total = 0.0
    for worker in sorted(workers, key=lambda worker: -_resource(worker, kind)):
        count = min(limit, int(worker.get("max_workers", limit)))
        total += count * _resource(worker, kind)
        limit -= count
    return total


def _resource(worker: dict[str, Any], kind: str) -> float:
    return float((worker.get("resources") or {}).get(kind, 0.0))
