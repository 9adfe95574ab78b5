"""The page of `benchmarks.gpu`, of which the stand-in for a GPU shows the form: what is timed there means nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.promises import constant, same
from search.training.loop import State

SMALLEST = ("--networks", "20", "--cases", "plain", "--n", "2", "--steps", "4")


def measured(stand_in: dict[str, str], out: Path, *parts: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, page and JSON of one command."""
    command = [sys.executable, "-m", "benchmarks.gpu", *SMALLEST, "--parts", *parts, "--out", str(out)]
    ran = subprocess.run(command, env=stand_in, capture_output=True, text=True)
    (page,), (data,) = out.glob("*-gpu.md"), out.glob("*-gpu.json")
    assert ran.stdout.strip() == page.read_text().strip()
    return ran.returncode, page.read_text(), json.loads(data.read_text())


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
def test_parts_of_several_commands_make_one_page(stand_in: dict[str, str], tmp_path: Path) -> None:
    """No program of this name is found for the part `mps`, nor does the profiler know this card."""
    nowhere = stand_in | {"PATH": str(tmp_path)}
    status, page, found = measured(nowhere, tmp_path / "out", "mps", "kernels", "steps")
    assert (status, list(found["parts"])) == (1, ["mps", "kernels", "steps"])
    assert "1 x a card that is none" in found["machine"]
    assert found["machine"] in page
    assert (
        "nvidia-cuda-mps-control, which comes with NVIDIA's driver, is not installed" in found["parts"]["mps"]["error"]
    )
    assert found["parts"]["kernels"]["error"] == "RuntimeError: the profiler saw no kernel"
    rate = next(each for each in found["parts"]["steps"]["figures"] if each["what"] == "ResNet-20, one trial")
    assert (rate["unit"], len(rate["values"]), rate["goal"]) == ("images/s", 2, 120_000)
    assert "floor operation by operation" in page
    assert "floor five passes over kept maps" in page

    status, page, found = measured(nowhere, tmp_path / "out", "branches", "check")
    assert (status, list(found["parts"])) == (0, ["mps", "kernels", "steps", "branches", "check"])
    counts = [figure["what"] for figure in found["parts"]["branches"]["figures"] if figure["what"].endswith("branches")]
    assert counts == [f"ResNet-20, {count} branches" for count in (1, 2, 3, 5)]
    assert {each["what"]: each["met"] for each in found["parts"]["check"]["figures"]} == {
        "trials leave no memory behind": True,
        "plain: promises kept": True,
    }
    first = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    assert list(dict.fromkeys(first))[2:] == ["| check", "| steps", "| kernels", "| mps", "| branches"]


NEVER_CAPTURED = """
import json, torch
from benchmarks.gpu.promises import promises
from search.training import step
loss = step.training_loss
def forbidden(*arguments):
    found = loss(*arguments)
    if torch.cuda.is_current_stream_capturing():
        found.item()
    return found
step.training_loss = forbidden
print(json.dumps(promises("plain")))
"""


def test_a_capture_that_never_succeeds_breaks_promises(stand_in: dict[str, str]) -> None:
    """Eager steps equal eager ones, so that what is asked is whether steps were replayed."""
    ran = subprocess.run([sys.executable, "-c", NEVER_CAPTURED], env=stand_in, capture_output=True, text=True)
    kept = [promise for promise, holds in json.loads(ran.stdout).items() if holds]
    assert kept == ["a capture that fails stays eager"]


def test_one_bit_and_one_epoch_are_noticed() -> None:
    weights, momentum = {"w": torch.ones(4)}, {"w": torch.zeros(4)}
    epoch = ({"train/loss": 0.5}, State(1, weights, momentum))
    assert same([epoch], [({"train/loss": 0.5}, State(1, {"w": torch.ones(4)}, {"w": torch.zeros(4)}))])
    changed = {"w": torch.tensor([1.0, 1.0, 1.0, 1.0 + 2**-23])}
    for other in (
        [],
        [({"train/loss": 0.5 + 2**-53}, epoch[1])],
        [(epoch[0], State(1, changed, momentum))],
        [(epoch[0], State(1, weights, changed))],
        [(epoch[0], State(1, weights, momentum, changed))],
    ):
        assert not same([epoch], other)


def test_memory_that_trials_leave_is_noticed() -> None:
    assert constant([10 * 2**20, 80 * 2**20, 80 * 2**20])
    assert not constant([10 * 2**20, 80 * 2**20, 82 * 2**20])
