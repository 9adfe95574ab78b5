"""`--check-cluster`: what each node of a cluster has, and what does not match, before trials fail one by one."""

import argparse
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console

from search import execution
from search.cluster import node_look
from search.cluster.jobs import travels
from search.cluster.node_look import look
from search.errors import Halted, InputError, public
from search.storage import Remote, is_url

LOOK_SECONDS = 180.0  # a node may have to fetch the code and start a worker first


@dataclass(frozen=True)
class Node:
    """A node as Ray knows it, and what it says of itself; or why it says nothing."""

    address: str
    cores: float
    gpus: float
    kind: str  # of its GPUs
    head: bool
    facts: dict[str, Any] | None
    silent: str

    def __str__(self) -> str:
        cards = f", {self.gpus:g} GPU{'s' if self.gpus != 1 else ''} {self.kind}".rstrip() if self.gpus else ", no GPU"
        has = f"{self.address}{' (head)' if self.head else ''}: {self.cores:g} cores{cards}"
        if self.facts is None:
            return f"{has}; {self.silent}"
        named = ", ".join(f"{name} {number}" for name, number in self.facts["versions"].items())
        return f"{has}; {named}, this code {self.facts['code']}; host {self.facts['host']}"


def check_cluster(given: argparse.Namespace, console: Console) -> int:
    """Prints every node of the cluster that RAY_ADDRESS names, and what does not match; 1 where something does not.

    Raises:
        InputError: no cluster is named, or none answers.
    """
    where = execution.address()
    if where is None:
        raise InputError("--check-cluster: no cluster is named; give --address, or set RAY_ADDRESS")
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    data = None if given.data_dir is None or is_url(given.data_dir) else given.data_dir
    ray = execution.join(where)
    try:
        with _marked(str(given.output)) as (output, marker, fault):
            mine = look(output, marker, data)
            nodes = _asked(ray, [n for n in ray.nodes() if n["Alive"]], (output, marker, data))
    finally:
        execution.leave()
    for node in nodes:
        out(str(node))
    wrong = [*([fault] if fault else []), *mismatches(mine, nodes, output, data)]
    if output is None and not fault:
        out("output not looked at: --output is a relative path")
    for text in wrong:
        out(f"does not match: {text}")
    if not wrong:
        out(f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}, all match")
    return 1 if wrong else 0


@contextmanager
def _marked(output: str) -> Iterator[tuple[str | None, str, str]]:
    """The output with a marker in it for the nodes to find; None where it cannot be looked at, and the fault if any."""
    marker = f".check-{secrets.token_hex(8)}"
    if not travels(output):
        yield None, marker, ""
        return
    try:
        place = Remote(output, patience=0)
        place.put(marker, b"")
    except (InputError, Halted) as error:
        yield None, marker, f"the driver cannot write to its output: {error}"
        return
    try:
        yield output, marker, ""
    finally:
        place.remove([marker])


def mismatches(mine: dict[str, Any], nodes: Sequence[Node], output: str | None, data: str | None) -> Iterator[str]:
    """What would make trials fail, or differ, on some of the nodes; `mine` is what the driver has."""
    for node in nodes:
        if node.facts is None:
            yield f"{node.address} {node.silent}"
            continue
        theirs = node.facts["versions"] | {"this code": node.facts["code"]}
        for name, number in (mine["versions"] | {"this code": mine["code"]}).items():
            if theirs[name] != number:
                yield f"{node.address} has {name} {theirs[name]}, the driver {number}; install the same on all nodes"
        if node.facts["torch_gpus"] < node.gpus:
            seen = node.facts["torch_gpus"]
            yield (
                f"{node.address} has {node.gpus:g} GPUs for Ray and {seen} for torch {theirs['torch']}; install a "
                "torch for this GPU and its driver"
            )
        if output is not None and node.facts["output"]:
            yield f"{node.address} {node.facts['output']}: {public(output)}; mount it on all nodes"
        if data is not None and not node.facts["data"]:
            yield f"{node.address} has no folder {data}; mount it on all nodes, or give --data-dir as a URL"


def _asked(ray: Any, alive: Sequence[dict[str, Any]], about: tuple[str | None, str, str | None]) -> list[Node]:
    """Every node's own account, all asked at once."""
    ray.cloudpickle.register_pickle_by_value(node_look)
    on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(look)
    asked = [task.options(scheduling_strategy=on(node["NodeID"], soft=False)).remote(*about) for node in alive]
    done, _ = ray.wait(asked, num_returns=len(asked), timeout=LOOK_SECONDS)
    told = [_node(ray, node, ref if ref in done else None) for node, ref in zip(alive, asked, strict=True)]
    return sorted(told, key=lambda node: not node.head)


def _node(ray: Any, node: dict[str, Any], ref: Any) -> Node:
    facts, silent = None, f"has not answered within {LOOK_SECONDS:g} s"
    if ref is not None:
        try:
            facts = ray.get(ref)
        except ray.exceptions.RayError as error:
            silent = f"cannot run a task ({' '.join(str(error).split())[-300:]})"
    has = node["Resources"]
    kinds = [name.partition(":")[2] for name in has if name.startswith("accelerator_type:")]
    head = "node:__internal_head__" in has
    return Node(
        node["NodeManagerAddress"], has.get("CPU", 0.0), has.get("GPU", 0.0), " ".join(kinds), head, facts, silent
    )
