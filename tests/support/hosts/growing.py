"""`python -m tests.support.hosts.growing DEMANDS`: a cluster without workers, asked for GPUs, then for none.

Prints lines of JSON, each with `seconds` since the start and `kinds`, that of every GPU node; the last one when none is
left. The head runs with what search/cluster/env.sh sets.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.support.study_process import ROOT

HEAD, HEAD_KIND = "f" * 51 + "00000", "ray.head.default"  # what Ray's fake nodes expect of their head
CONFIG = Path("/tmp/growing.json")
STORE = 100_000_000  # bytes of each node's object store
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")


def config() -> dict[str, Any]:
    """Of cluster.yaml: its kinds of machines and how many of them; idle ones go after six seconds."""
    shipped = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    kinds = {
        (HEAD_KIND if name == shipped["head_node_type"] else name): {
            "resources": kind["resources"] | {"object_store_memory": STORE, name: 1},  # by its name it is known again
            "node_config": {},
            "min_workers": 0,
        }
        | {"max_workers": kind.get("max_workers", 0)}
        for name, kind in shipped["available_node_types"].items()
    }
    quiet = {"use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True}
    return {
        "cluster_name": "growing",
        "max_workers": shipped["max_workers"],
        "upscaling_speed": shipped["upscaling_speed"],
        "idle_timeout_minutes": 0.1,
        "provider": {"type": "external", "module": "growing_provider.Provider", "head_node_id": HEAD, **quiet}
        | {"launch_multiple": True},
        "available_node_types": kinds,
        "head_node_type": HEAD_KIND,
        "file_mounts_sync_continuously": False,
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{f"{name}_commands": [] for name in COMMANDS},
    }


def start_head() -> None:
    CONFIG.write_text(json.dumps(config()))
    here = {"RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD, "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    os.environ.update(here | {"PYTHONPATH": paths})
    bare = ["--num-cpus=0", "--num-gpus=0", f"--object-store-memory={STORE}", "--include-dashboard=false"]
    subprocess.run(
        ["ray", "start", "--head", *bare, f"--autoscaling-config={CONFIG}"], check=True, stdout=subprocess.DEVNULL
    )


def main() -> None:
    import ray

    start_head()
    began = time.monotonic()
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")

    def look() -> list[str]:
        alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
        kinds = sorted(name for node in alive for name in node["Resources"] if name in known)
        sys.stdout.write(json.dumps({"seconds": round(time.monotonic() - began, 1), "kinds": kinds}) + "\n")
        sys.stdout.flush()
        return kinds

    known = config()["available_node_types"]
    held = ray.remote(num_cpus=1, num_gpus=1)(_Holder)
    look()
    holders = [held.remote() for _ in range(int(sys.argv[1]))]
    ray.get([holder.here.remote() for holder in holders], timeout=300)  # pyright: ignore
    look()
    for holder in holders:
        ray.kill(holder)
    end = time.monotonic() + 300
    while look() and time.monotonic() < end:
        time.sleep(0.5)


class _Holder:
    """Holds a GPU, as a trial does."""

    def here(self) -> bool:
        return True


if __name__ == "__main__":
    main()
