"""What `--check-cluster` says of nodes that differ, and what a node says of itself."""

from pathlib import Path
from typing import Any

from search.cluster.node_look import look
from search.cluster.nodes import Node, mismatches

MINE = {
    "versions": {"python": "3.11.2", "torch": "2.14.1", "ray": "2.60.0"},
    "code": "1a2b3c4d",
    "torch_gpus": 0,
    "output": None,
    "data": None,
}


def node(gpus: float = 0, **facts: Any) -> Node:
    return Node("10.0.0.2", 8.0, gpus, "H100" if gpus else "", False, MINE | {"host": "worker"} | facts, "")


def told(*nodes: Node, output: str | None = None, data: str | None = None) -> list[str]:
    return list(mismatches(MINE, nodes, output, data))


def test_equal_nodes_match() -> None:
    assert told(node(), node(gpus=2, torch_gpus=2)) == []
    assert told(node(output="", data=True), output="/shared", data="/data") == []


def test_each_difference_is_named() -> None:
    (version,) = told(node(versions=MINE["versions"] | {"torch": "2.13.0"}))
    assert version == "10.0.0.2 has torch 2.13.0, the driver 2.14.1; install the same on all nodes"
    (code,) = told(node(code="none"))
    assert code.startswith("10.0.0.2 has this code none, the driver 1a2b3c4d")
    (gpu,) = told(node(gpus=1))
    assert gpu.startswith("10.0.0.2 has 1 GPUs for Ray and 0 for torch 2.14.1")
    (output,) = told(node(output="does not see what the driver writes there"), output="s3://ann:hidden@bucket/results")
    assert "does not see" in output
    assert "hidden" not in output
    (data,) = told(node(data=False), data="/data")
    assert "no folder /data" in data
    (silent,) = told(Node("10.0.0.3", 8.0, 0, "", False, None, "has not answered within 180 s"))
    assert silent == "10.0.0.3 has not answered within 180 s"


def test_a_node_is_told_with_its_cards_and_versions() -> None:
    assert str(node(gpus=2)) == (
        "10.0.0.2: 8 cores, 2 GPUs H100; python 3.11.2, torch 2.14.1, ray 2.60.0, this code 1a2b3c4d; host worker"
    )


def test_what_this_process_sees(tmp_path: Path) -> None:
    (tmp_path / "marker").write_text("marker")
    seen = look(str(tmp_path), "marker", str(tmp_path))
    assert (seen["output"], seen["data"]) == ("", True)
    assert [path.name for path in tmp_path.iterdir()] == ["marker"]
    assert set(seen["versions"]) == {"python", "torch", "ray", "optuna", "mlflow", "numpy"}
    assert len(seen["code"]) == 8
    blind = look(str(tmp_path / "other"), "marker", "/nowhere")
    assert (blind["output"], blind["data"]) == ("does not see what the driver writes there", False)
