"""The shipped cluster files, changed as little as a simulated cluster needs.

What is installed comes from this machine's environment, addresses are those of the hosts, idle machines go sooner, and
machines of the cloud have fewer cores. All else is run as it is shipped.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.hosts.lan import Lan
from tests.support.study_process import ROOT

INSTALLED = f"ln -sfn {sys.prefix} ~/venv"


def onprem(lan: Lan) -> dict[str, Any]:
    """search/cluster/onprem.yaml for the head and the workers of `lan`."""
    cluster = _offline(ROOT / "search" / "cluster" / "onprem.yaml")
    cluster["provider"]["head_ip"] = lan.head.address
    cluster["provider"]["worker_ips"] = [worker.address for worker in lan.workers]
    return cluster


def aws() -> dict[str, Any]:
    """cluster.yaml with machines that have one core each, and go after some 20 seconds of idleness."""
    cluster = _offline(ROOT / "cluster.yaml") | {"idle_timeout_minutes": 0.3}
    for name, kind in cluster["available_node_types"].items():
        if name != cluster["head_node_type"]:
            kind["resources"] = kind["resources"] | {"CPU": 1}
    return cluster


def place(cluster: dict[str, Any], lan: Lan) -> str:
    """Writes it into the home of the laptop; its path there."""
    (lan.laptop.state / "home" / "cluster.yaml").write_text(yaml.safe_dump(cluster, sort_keys=False))
    return "~/cluster.yaml"


def _offline(shipped: Path) -> dict[str, Any]:
    cluster = yaml.safe_load(shipped.read_text())
    (makes,) = [line for line in cluster["setup_commands"] if "venv" in line]
    others = [line for line in cluster["setup_commands"] if line != makes]
    return cluster | {"setup_commands": [INSTALLED, *others], "head_setup_commands": [], "worker_setup_commands": []}
