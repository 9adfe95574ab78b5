"""The shipped cluster files: Ray accepts them, and they keep the rules of their own."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from search.execution import prices
from search.spec import SearchSpec
from tests.support.study_process import ROOT

CLUSTERS = ROOT / "search" / "cluster"
AWS, ONPREM, RAYJOB = ROOT / "cluster.yaml", CLUSTERS / "onprem.yaml", CLUSTERS / "rayjob.yaml"
LAUNCHED = pytest.mark.parametrize("file", [AWS, ONPREM], ids=lambda file: file.name)
ANY = pytest.mark.parametrize("file", [AWS, ONPREM, RAYJOB], ids=lambda file: file.name)


def read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


@LAUNCHED
def test_ray_accepts_it_and_it_keeps_the_rules(file: Path) -> None:
    cluster = read(file)
    validate_config(prepare_config(read(file)))
    commands = [line for key, lines in cluster.items() if key.endswith("_commands") for line in lines]
    (head,) = [line for line in cluster["head_start_ray_commands"] if "ray start" in line]
    (worker,) = [line for line in cluster["worker_start_ray_commands"] if "ray start" in line]
    for start in (head, worker):
        assert ". ~/project/search/cluster/env.sh; RAY_AUTH_MODE=token ray start" in start
    for word in ("--dashboard-host=127.0.0.1", "--num-cpus=0", "--num-gpus=0", "--autoscaling-config="):
        assert word in head
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    mounted = [Path(source) for source in cluster["file_mounts"].values() if not source.startswith("~")]
    assert all((ROOT / source).exists() for source in mounted), "ray up is called from the top of the project"
    installs = [line for line in commands if "pip install" in line]
    assert installs == [*cluster["head_setup_commands"], *cluster["worker_setup_commands"]]
    locks = ["requirements.lock", "requirements-worker.lock"]
    assert [line.rpartition("-r ~/project/")[2] for line in installs] == locks
    assert {f"~/project/{lock}" for lock in locks} < cluster["file_mounts"].keys()
    for line in commands:
        assert "0.0.0.0" not in line
        assert "index" not in line


@ANY
def test_what_a_user_changes_is_marked_and_listed(file: Path) -> None:
    text = file.read_text()
    listed = " ".join(re.findall(r"^#   (\S.*?)  ", text, re.MULTILINE))
    marked = [line for line in text.splitlines() if line.endswith("# CHANGE")]
    assert marked
    for line in marked:
        assert any(word.strip(",") in line for word in listed.split()), f"not listed at the top: {line.strip()}"
    for word in listed.replace(",", "").split():
        assert any(word in line for line in marked), f"listed, but not marked: {word}"
    assert not re.search(r"(?i)(secret|password|AKIA|BEGIN .*KEY)\S*\s*[:=]\s*\S", text)


def test_rules_of_aws() -> None:
    cluster = read(AWS)
    kinds = cluster["available_node_types"]
    prices.check(SearchSpec(max_cost="20 USD"), [], cluster)
    head = kinds.pop(cluster["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert len({json.dumps(kind["resources"]) for kind in kinds.values()}) == 1, "the scorer alone decides"
    assert all(kind["min_workers"] == 0 for kind in kinds.values())
    spot = {name: "InstanceMarketOptions" in kind["node_config"] for name, kind in kinds.items()}
    assert {name: "spot" in name for name in kinds} == spot
    assert len({kind["node_config"]["InstanceType"] for name, kind in kinds.items() if spot[name]}) == 2
    assert not all(spot.values())
    for kind in (head, *kinds.values()):
        config = kind["node_config"]
        assert config["MetadataOptions"]["HttpTokens"] == "required"
        assert config["IamInstanceProfile"]["Name"].startswith("resnet-search-")
        assert all(
            disk["Ebs"]["Encrypted"] and disk["Ebs"]["DeleteOnTermination"] for disk in config["BlockDeviceMappings"]
        )
    assert cluster["provider"]["cache_stopped_nodes"] is False
    assert cluster["provider"]["security_group"] == {"GroupName": "resnet-search"}


def test_every_shell_of_a_machine_knows_of_the_token() -> None:
    for file in (AWS, ONPREM):
        assert any("cluster/env.sh >> ~/.bashrc" in line.replace("'", "") for line in read(file)["setup_commands"])
    launched = {"HOME": "/home/x", "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "RAY_enable_autoscaler_v2": "1"}
    shell = ["sh", "-c", f". {CLUSTERS}/env.sh; env"]
    shown = subprocess.run(shell, env=launched, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"RAY_AUTH_MODE=token", "PYTHONPATH=/home/x/project", "RAY_enable_autoscaler_v2=0"} <= set(shown)
    assert "MLFLOW_TRACKING_URI=http://127.0.0.1:5000" in shown
    assert not any(line.startswith("OMP_NUM_THREADS") for line in shown)


def test_the_manifest_is_what_kuberay_takes_and_keeps_the_rules() -> None:
    schema = json.loads((ROOT / "tests" / "support" / "rayjob.schema.json").read_text())
    manifest = read(RAYJOB)
    jsonschema.validate(manifest, schema)
    spec = manifest["spec"]
    cluster = spec["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert workers["minReplicas"] == workers["replicas"] == workers["maxReplicas"]
    assert spec["shutdownAfterJobFinishes"]
    resources = workers["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"] == resources["requests"]


def test_the_images_have_what_the_lock_files_name_and_run_as_a_user() -> None:
    """hadolint wants wget pinned, and nothing else; the images were never built, for want of Docker."""
    text = (CLUSTERS / "Dockerfile").read_text()
    steps = [line.split() for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    copied = [step[1] for step in steps if step[0] == "COPY"]
    assert copied == ["requirements-worker.lock", "resnet", "search", "requirements.lock"]
    kept = (CLUSTERS / "Dockerfile.dockerignore").read_text().split()
    assert {f"!{source}" for source in copied} < set(kept)
    stages = text.split("\nFROM ")[1:]
    assert [re.findall(r"^USER (.*)$", stage, re.MULTILINE)[-1] for stage in stages] == ["1000", "1000"]
