"""A worker of a cluster has the packages of requirements-worker.lock alone: what trains, and no MLflow or plots."""

import os
import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.study_process import ROOT, command
from tests.support.whole import report_of

BLOCK = """
import importlib.abc, os, pathlib, sys

import pytest

if any("default_worker.py" in argument for argument in sys.orig_argv):  # a process that Ray has started

    class Refuse(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {refused!r}:
                raise ModuleNotFoundError(f"{{name}} is not on a worker")

    sys.meta_path.insert(0, Refuse())
    pathlib.Path(__file__).with_name(f"worker-{{os.getpid()}}").touch()
"""


def name(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def locked(file: str) -> dict[str, str]:
    """Name -> `name==version`."""
    return {name(line.partition("==")[0]): line for line in (ROOT / file).read_text().split()}


def test_it_is_a_part_of_what_the_head_has_and_lacks_nothing() -> None:
    every, worker = locked("requirements.lock"), locked("requirements-worker.lock")
    assert worker.items() < every.items()
    for distribution in worker:
        asked = [Requirement(line) for line in metadata.requires(distribution) or []]
        needed = {name(one.name) for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})}
        assert not (needed & every.keys()) - worker.keys(), distribution


@pytest.mark.long
def test_a_study_runs_on_workers_that_have_nothing_else(tmp_path: Path) -> None:
    """Each process of Ray's refuses to import what is in no package of that file."""
    there = {name(d) for d in locked("requirements-worker.lock")}
    packages = {module: set(map(name, of)) for module, of in metadata.packages_distributions().items()}
    absent = locked("requirements.lock").keys() - there
    refused = {module for module, of in packages.items() if of and of <= absent}
    assert {"mlflow", "plotly", "matplotlib", "onnxruntime", "flask"} <= refused
    (tmp_path / "sitecustomize.py").write_text(BLOCK.format(refused=refused))
    line = command(tmp_path, "--trials", "2", "--epochs", "2", finals={"top": 1, "seeds": 2, "max_seeds": 2})
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    ended = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.glob("worker-*")), "nothing was refused"
    assert report_of(tmp_path)["finals"]["complete"]
