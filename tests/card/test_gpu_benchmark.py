"""The page of `benchmarks.gpu`, of which the stand-in for a GPU shows the form: what is timed there means nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.promises import constant

SMALLEST = ("--networks", "20", "--cases", "plain", "--n", "2", "--steps", "4")


def measured(stand_in: dict[str, str], out: Path, *parts: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, page and JSON of one command."""
    command = [sys.executable, "-m", "benchmarks.gpu", *SMALLEST, "--parts", *parts, "--out", str(out)]
    ran = subprocess.run(command, env=stand_in, capture_output=True, text=True)
    (page,), (data,) = out.glob("*-gpu.md"), out.glob("*-gpu.json")
    assert ran.stdout.strip() == page.read_text().strip()
    return ran.returncode, page.read_text(), json.loads(data.read_text())


@pytest.mark.slow
def test_parts_of_several_commands_make_one_page(stand_in: dict[str, str], tmp_path: Path) -> None:
    """No program of this name is found for the part `mps`, nor does the profiler know this card."""
    nowhere = stand_in | {"PATH": str(tmp_path)}
    status, page, found = measured(nowhere, tmp_path / "out", "mps", "kernels", "steps")
    assert (status, list(found["parts"])) == (1, ["mps", "kernels", "steps"])
    assert "1 x a card that is none" in found["machine"]
    assert found["machine"] in page
    assert "nvidia-cuda-mps-control is not installed" in found["parts"]["mps"]["error"]
    assert found["parts"]["kernels"]["error"] == "RuntimeError: the profiler saw no kernel"
    rate = next(each for each in found["parts"]["steps"]["figures"] if each["what"] == "ResNet-20, one trial")
    assert (rate["unit"], len(rate["values"]), rate["goal"]) == ("images/s", 2, 120_000)
    assert "floor operation by operation" in page
    assert "floor five passes over kept maps" in page

    status, page, found = measured(nowhere, tmp_path / "out", "check")
    assert (status, list(found["parts"])) == (0, ["mps", "kernels", "steps", "check"])
    assert {each["what"]: each["met"] for each in found["parts"]["check"]["figures"]} == {
        "trials leave no memory behind": True,
        "plain: promises kept": True,
    }
    first = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    assert list(dict.fromkeys(first))[2:] == ["| check", "| steps", "| kernels", "| mps"]


def test_memory_that_trials_leave_is_noticed() -> None:
    assert constant([10 * 2**20, 80 * 2**20, 80 * 2**20])
    assert not constant([10 * 2**20, 80 * 2**20, 82 * 2**20])
