"""The head of a cluster with Ray's autoscaler, on loopback, in the environment that search/cluster/env.sh makes."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray.autoscaler._private.util import prepare_config  # as `ray up` does before it writes the file for the head

from tests.support.hosts.waiting import wait_for
from tests.support.market import HEAD, NoSpot
from tests.support.ray_head import LOOPBACK, free_ports
from tests.support.study_process import ROOT

ENV = ROOT / "search" / "cluster" / "env.sh"
LOCAL = "127.0.0.1"
DEMAND = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
ray.util.placement_group([{"CPU": 1, "GPU": 1}])
sys.stdin.read()
"""


@dataclass(frozen=True)
class Autoscaled:
    """A head that runs, with its files in `folder`."""

    folder: Path
    cluster: dict[str, Any]

    def asked(self) -> list[str]:
        """Kinds that the cloud without spot was asked for, in order."""
        file = Path(self.cluster["provider"]["asked"])
        return file.read_text().split() if file.exists() else []

    def running(self) -> set[str]:
        """Machines of a fixed list that Ray takes for running."""
        state = self.folder / "ray" / f"cluster-{self.cluster['cluster_name']}.state"
        if not state.exists():
            return set()
        return {address for address, known in json.loads(state.read_text()).items() if known["state"] == "running"}


def fixed(file: Path, workers: list[str]) -> dict[str, Any]:
    """The cluster of the file for these machines, none of which answers."""
    provider = {"type": "local", "head_ip": LOCAL, "worker_ips": workers}
    return yaml.safe_load(file.read_text()) | {"provider": provider, "file_mounts": {}, "auth": {"ssh_user": "nobody"}}


def without_spot(file: Path, asked: Path, **priority: int) -> dict[str, Any]:
    """The cluster of the file in a cloud without spot; `priority` is that of kinds with such a word in their name."""
    provider = {"type": "external", "module": f"{NoSpot.__module__}.NoSpot", "asked": str(asked)}
    cluster = yaml.safe_load(file.read_text())
    for name, kind in cluster["available_node_types"].items():
        kind |= {"priority": max((value for word, value in priority.items() if word in name), default=0)}
    none = {"file_mounts": {}, "cluster_synced_files": [], "auth": {}}
    return cluster | none | {"provider": provider | {"disable_node_updaters": True}}


@contextmanager
def autoscaled(cluster: dict[str, Any], version: str | None = None, demand: bool = False) -> Iterator[Autoscaled]:
    """While it is entered, the head runs, and with `demand` somebody waits for a core and a GPU.

    `version` of the autoscaler is 1 or 2; by default that which the project chooses.
    """
    folder = Path(tempfile.mkdtemp(prefix="rs-"))  # short: Ray's sockets are below it, and their names may not be long
    (folder / "cluster.yaml").write_text(yaml.safe_dump(prepare_config(cluster)))
    shell, log = _shell(folder, cluster), (folder / "log").open("wb")
    chosen = f". {ENV};" + (f" export RAY_enable_autoscaler_v2={int(version == '2')};" if version else "")
    agent, client = free_ports(2)
    start = (
        f"ray start --head --block --node-ip-address={LOCAL} --port=0 --num-cpus=0 --num-gpus=0 "
        "--include-dashboard=false --include-log-monitor=false --min-worker-port=0 --max-worker-port=0 "
        f"--dashboard-agent-listen-port={agent} --ray-client-server-port={client} "
        f"--temp-dir={folder}/r --autoscaling-config={folder}/cluster.yaml"
    )
    with ExitStack() as around:
        around.callback(shutil.rmtree, folder, ignore_errors=True)
        around.callback(log.close)
        head = subprocess.Popen(["sh", "-c", f"{chosen} exec {start}"], env=shell, stdout=log, stderr=log)
        around.callback(_end, head)
        address = folder / "r" / "ray_current_cluster"
        wait_for(lambda: head.poll() is not None or address.exists(), 60, "Ray")
        assert head.poll() is None, (folder / "log").read_text()
        if demand:
            asking = ["sh", "-c", f'{chosen} exec python -c "$0" "$1"', DEMAND, address.read_text()]
            somebody = subprocess.Popen(asking, env=shell, stdin=subprocess.PIPE, stdout=log, stderr=log)
            around.callback(_end, somebody)
        yield Autoscaled(folder, cluster)


def _shell(folder: Path, cluster: dict[str, Any]) -> dict[str, str]:
    """The environment of a user on the head, whose home has what search/cluster/env.sh expects there."""
    home = folder / "home"
    home.mkdir()
    (home / "project").symlink_to(ROOT)
    (home / "venv").symlink_to(sys.prefix)
    named = {  # as `ray up` does
        "RAY_CLOUD_INSTANCE_ID": HEAD if cluster["provider"]["type"] == "external" else LOCAL,
        "RAY_NODE_TYPE_NAME": cluster.get("head_node_type", "local.cluster.node"),
    }
    own = {"HOME": str(home), "RAY_TMPDIR": str(folder), "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return others | LOOPBACK | named | own | {"AUTOSCALER_UPDATE_INTERVAL_S": "1"}


def _end(process: "subprocess.Popen[bytes]") -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    for left in psutil.wait_procs(family, 10)[1]:
        left.kill()
    process.kill()
    process.wait()
