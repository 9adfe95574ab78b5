"""A cloud for Ray's autoscaler without machines: each node is one more raylet on the host.

In no package, for Ray imports it by its plain name.
"""

from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

NO_SPOT = Path("/tmp/no-spot")  # while it exists, nodes whose kind has `spot` in its name are not to be had


class Provider(FakeMultiNodeProvider):
    """Ray's own, with a market that may be empty."""

    def create_node_with_resources_and_labels(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> dict[str, Any] | None:
        kind = tags[TAG_RAY_USER_NODE_TYPE]
        if "spot" in kind and NO_SPOT.exists():
            raise NodeLaunchException("InsufficientInstanceCapacity", f"there is no {kind}", None)
        return super().create_node_with_resources_and_labels(node_config, tags, count, resources, labels)
