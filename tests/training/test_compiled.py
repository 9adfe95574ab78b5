"""Real compilations, in processes without run-time type checks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch._inductor.runtime.cache_dir_utils import cache_dir

from resnet import NetSpec
from search.spec import TrainSpec, TrialSpec
from search.training import step

SPEC = TrialSpec(net=NetSpec(depth=8, in_channels=1), train=TrainSpec(epochs=2, batch_size=32, crop_padding=1))
TWO_TRIALS = """
import json, sys
from pathlib import Path
import torch
import torchvision  # which names a folder of torch's own for kernels
from tests.support.sample_digits import resident
from search.training.step import Compiler
from search.spec.trial import TrialSpec
from search.training.loop import train

torch.set_num_threads(1)
import search.training.device
search.training.device.has_bf16 = lambda device: False  # float32, whatever the processor has
specs = [TrialSpec.model_validate_json(text) for text in json.loads(sys.argv[2])]
compiler = Compiler(True, Path(sys.argv[1]))
splits = resident(0, 96), resident(1000, 1032)
eager = [[e.metrics for e in train(spec, *splits)] for spec in specs]
ours, states = [], []
for spec in specs:
    epochs = [(e, e.state()) for e in train(spec, *splits, compiler=compiler)]
    ours.append([e.metrics for e, _ in epochs])
    states.append(epochs[0][1])
again = [e.metrics for e in train(specs[0], *splits, states[0], compiler)]
from torch._dynamo.utils import counters
print(json.dumps({"eager": eager, "ours": ours, "again": again, "compiled": [s.compiled for s in states],
                  "graphs": counters["stats"]["unique_graphs"]}))
"""


def run(folder: Path, **environment: str) -> tuple[dict, str]:
    specs = [SPEC, SPEC.model_copy(update={"train": SPEC.train.model_copy(update={"seed": 1, "lr": 0.02})})]
    found = subprocess.run(
        [sys.executable, "-c", TWO_TRIALS, str(folder), json.dumps([s.model_dump_json() for s in specs])],
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout), found.stderr


def timeless(epochs: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in metrics.items() if not k.startswith("cost/")} for metrics in epochs]


@pytest.mark.slow
@pytest.mark.long
def test_compiled_once_for_all_trials_of_a_network(tmp_path: Path) -> None:
    """Two trials and a continuation: one compilation, the figures of the eager network up to rounding."""
    found, _ = run(tmp_path)
    assert found["compiled"] == [True, True]
    assert found["graphs"] == 1
    for ours, eager in zip(found["ours"], found["eager"], strict=True):
        for mine, theirs in zip(ours, eager, strict=True):
            assert mine["train/loss"] == pytest.approx(theirs["train/loss"], rel=5e-3)
            assert mine["val/loss"] == pytest.approx(theirs["val/loss"], rel=2e-2)
    assert timeless(found["again"]) == timeless(found["ours"][0][1:]), "continued to the bit"
    assert list((tmp_path / "kernels").rglob("*.so")), "the kernels are kept where every trial finds them"


@pytest.mark.parametrize(("named", "kept"), [(None, "ours"), ("torch's", "ours"), ("theirs", "theirs")])
def test_kernels_are_kept_in_our_folder_unless_the_user_has_named_one(
    named: str | None, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's own folder is what torchvision has written into the environment, here or in the driver."""
    monkeypatch.delenv(step.KERNELS, raising=False)
    if named == "torch's":
        named = cache_dir()
    if named is not None:
        monkeypatch.setenv(step.KERNELS, named)
    step._keep_kernels("ours")
    assert os.environ[step.KERNELS] == kept


@pytest.mark.slow
@pytest.mark.long
def test_without_a_compiler_the_trial_stays_eager(tmp_path: Path) -> None:
    found, told = run(tmp_path, CXX="/nonexistent/c++")
    assert found["compiled"] == [False, False]
    assert [timeless(e) for e in found["ours"]] == [timeless(e) for e in found["eager"]]
    assert "stays eager" in told
