"""A Ray cluster on loopback in a process of its own: `python -m tests.support.cluster_nodes CORES`, a line a request.

Ray's own `Cluster` starts several nodes on one machine, which `ray start` refuses on loopback. Tells its address once,
and for each line `CORES` that is read the pid of a new node's raylet. Ends when its input does.
"""

import sys

from ray.cluster_utils import Cluster


def tell(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    local = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=local | {"num_cpus": int(sys.argv[1])})
    tell(cluster.address)
    for line in sys.stdin:
        node = cluster.add_node(num_cpus=int(line), **local)
        (raylet,) = node.all_processes["raylet"]
        tell(raylet.process.pid)
    cluster.shutdown()


if __name__ == "__main__":
    main()
