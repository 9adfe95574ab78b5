"""A cloud without spot, for Ray's autoscaler: it writes down what it is asked for, and starts nothing."""

import threading
from pathlib import Path
from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

HEAD = "head"  # its id, and the name of its kind in cluster.yaml


class NoSpot(NodeProvider):
    """Kinds with `spot` in their name are refused as EC2 refuses them; others are pending for ever.

    `asked`, in the section `provider`, is the file that has a line for each kind that was asked for.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._nodes = {HEAD: {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: HEAD}}
        self._asked, self._lock = Path(provider_config["asked"]), threading.Lock()

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        kind = tags[TAG_RAY_USER_NODE_TYPE]
        with self._lock, self._asked.open("a") as file:
            file.write(f"{kind}\n")
            if "spot" in kind:
                raise NodeLaunchException("InsufficientInstanceCapacity", "There is no spot capacity.", None)
            for _ in range(count):
                self._nodes[f"node{len(self._nodes)}"] = dict(tags)

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        return [name for name, tags in self._nodes.items() if tag_filters.items() <= tags.items()]

    def is_running(self, node_id: str) -> bool:
        return node_id == HEAD

    def is_terminated(self, node_id: str) -> bool:
        return node_id not in self._nodes

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self._nodes[node_id]

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self._nodes[node_id].update(tags)

    def internal_ip(self, node_id: str) -> str:
        return f"127.0.0.{1 + list(self._nodes).index(node_id)}"

    external_ip = internal_ip

    def terminate_node(self, node_id: str) -> None:
        self._nodes.pop(node_id, None)
