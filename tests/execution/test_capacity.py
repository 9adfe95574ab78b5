"""What a cluster can come to have, and on how many machines, from what Ray and `ray up` know of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.cluster.job import check_paths
from search.errors import InputError
from search.execution import machines
from search.execution.host import joined, most
from search.spec import find, load

NONE = Path("/nowhere/ray_bootstrap_config.yaml")


def node(address: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeManagerAddress": address, "Alive": alive, "Resources": resources}


def plan(file: Path, max_workers: int) -> Path:
    types = {
        "head": {"resources": {"CPU": 0, "GPU": 0}, "max_workers": 0},
        "spot": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 3},
        "on-demand": {"resources": {"CPU": 16, "GPU": 1}, "max_workers": 2},
        "unknown": {"max_workers": 9},
    }
    file.write_text(
        yaml.safe_dump({"max_workers": max_workers, "head_node_type": "head", "available_node_types": types})
    )
    return file


WORKERS = [node(f"10.0.1.{n}", CPU=16.0, GPU=1.0) for n in range(3)]


@pytest.mark.parametrize(
    ("nodes", "planned", "amount", "number"),
    [
        (
            [node("10.0.0.1", CPU=4.0), node("10.0.0.2", CPU=8.0, GPU=2.0), node("10.0.0.3", False, CPU=99.0)],
            0,
            (12, 2),
            2,
        ),
        ([node("127.0.0.1", CPU=1.0), node("127.0.0.1", CPU=1.0)], 0, (2, 0), 1),
        # an autoscaler's workers count before they are there, those with most of a kind first
        ([node("10.0.0.1")], 10, (2 * 16 + 3 * 8, 5), 2),
        ([node("10.0.0.1")], 3, (2 * 16 + 8, 3), 2),
        ([node("10.0.0.1"), *WORKERS], 3, (48, 3), 4),
    ],
)
def test_what_a_cluster_has_at_its_largest(
    nodes: list[dict[str, Any]], planned: int, amount: tuple[float, float], number: int, tmp_path: Path
) -> None:
    file = plan(tmp_path / "plan", planned) if planned else NONE
    assert most(nodes, file) == amount
    assert machines(nodes, file) == number


def test_machines_that_are_still_starting_are_waited_for(tmp_path: Path) -> None:
    """A list of two machines and a head, as `ray up` writes it down; they join one after the other, or not at all."""
    listed = {"local.cluster.node": {"resources": {}, "min_workers": 2, "max_workers": 2}}
    text = yaml.safe_dump({"max_workers": 2, "head_node_type": "local.cluster.node", "available_node_types": listed})
    (tmp_path / "plan").write_text(text)
    there = [node("10.0.0.1")]

    def joining() -> list[dict[str, Any]]:
        there.append(node(f"10.0.0.{len(there) + 1}", CPU=4.0))
        return list(there)

    assert len([n for n in joined(joining, tmp_path / "plan") if n["Alive"]]) >= 3
    alone = [node("10.0.0.1"), node("10.0.0.2", alive=False, CPU=4.0)]
    assert joined(lambda: alone, tmp_path / "plan", seconds=0.1) == alone
    assert joined(lambda: alone, NONE) == alone, "nothing is known to come"


@pytest.mark.parametrize("output", ["results", "../results", "~/results"])
def test_several_machines_need_an_output_that_all_see(output: str) -> None:
    spec = load(find("digits"))
    with pytest.raises(InputError, match="--output as an absolute path"):
        check_paths(output, spec, "trials run on several machines")
    for shared in ("/mnt/shared/results", "s3://bucket/results"):
        check_paths(shared, spec, "trials run on several machines")


@pytest.mark.parametrize(
    "setting",
    [
        ("data.name", "imagefolder:photos"),
        ("data.name", "npz:images.npz"),
        ("data.dir", "datasets"),
        ("search.storage", "sqlite:///trials.db"),
        ("tracking.uri", "sqlite:///runs.db"),
    ],
)
def test_several_machines_need_absolute_paths(setting: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=f"{setting[0]} = .*relative"):
        check_paths("/mnt/shared/results", load(find("digits"), [setting]), "trials run on several machines")
