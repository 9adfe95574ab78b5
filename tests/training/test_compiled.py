"""When compiling repays, by arithmetic; and real compilations, in processes without run-time type checks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resnet import NetSpec, build
from search.spec import Compile, TrainSpec, TrialSpec
from search.training import Compiler
from search.training.step import Timing
from tests.support.sample_digits import resident

SPEC = TrialSpec(net=NetSpec(depth=8, in_channels=1), train=TrainSpec(epochs=2, batch_size=32, crop_padding=1))
TWO_TRIALS = """
import json, sys
from pathlib import Path
import torch
from tests.support.sample_digits import resident
from search.training.step import Compiler
from search.spec.trial import Compile, TrialSpec
from search.training.loop import train

torch.set_num_threads(1)
import search.training.device
search.training.device.has_bf16 = lambda device: False  # float32, whatever the processor has
specs = [TrialSpec.model_validate_json(text) for text in json.loads(sys.argv[2])]
compiler = Compiler(Compile.ALWAYS, Path(sys.argv[1]))
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


@pytest.fixture(autouse=True)
def _kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other tests find the variable as it was."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "of this process"))


def run(folder: Path, **environment: str) -> tuple[dict, str]:
    specs = [SPEC, SPEC.model_copy(update={"train": SPEC.train.model_copy(update={"seed": 1, "lr": 0.02})})]
    inherited = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    found = subprocess.run(
        [sys.executable, "-c", TWO_TRIALS, str(folder), json.dumps([s.model_dump_json() for s in specs])],
        env={**inherited, "PYTHONPATH": str(Path.cwd()), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout), found.stderr


def timeless(epochs: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in metrics.items() if not k.startswith("cost/")} for metrics in epochs]


@pytest.mark.parametrize(
    ("timing", "training_s", "expected"),
    [
        (Timing(60, 1.0, 0.5), 121, True),  # half of 121 s is saved, 60 s are spent
        (Timing(60, 1.0, 0.5), 119, False),
        (Timing(60, 0.2, 0.1), 121, True),
        (Timing(60, 1.0, 1.0), 1e9, False),
        (Timing(0, 1.0, 1.1), 1e9, False),
    ],
)
def test_repays_by_hand(timing: Timing, training_s: float, expected: bool) -> None:
    assert timing.repays(training_s) is expected


def test_what_is_measured_decides(tmp_path: Path) -> None:
    """A machine on which compiling takes 100 s and every network gains nothing, or more than it costs."""
    split = resident(0, 320)
    torch.manual_seed(0)
    model = build(SPEC.net)
    compiler = Compiler(Compile.AUTO, tmp_path)
    assert not compiler.choose(SPEC, model, split).compiled, "two epochs of 320 small images repay nothing"
    file = compiler._file(torch.device("cpu"))
    name = f"{SPEC.net.model_dump_json()} 32"
    for eager_s, compiled_s, expected in ((7.0, 1.0, True), (7.0, 6.9, False), (6.0, 1.0, False), (7.0, 8.0, False)):
        file.write_text(json.dumps({name: [100.0, eager_s, compiled_s]}))  # 20 steps: 120 s, 2 s, 100 s, -20 s saved
        assert compiler._wanted(SPEC, split) is expected


def test_never_is_never(tmp_path: Path) -> None:
    model = build(SPEC.net)
    chosen = Compiler(Compile.NEVER, tmp_path).choose(SPEC, model, resident(0, 96))
    assert (chosen.model, chosen.compiled) == (model, False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
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
    ((_, (compile_s, eager_s, compiled_s)),) = json.loads(next(tmp_path.glob("*.json")).read_text()).items()
    assert compile_s > eager_s > 0
    assert compiled_s > 0
    assert list((tmp_path / "kernels").rglob("*.so")), "the kernels are kept where every trial finds them"


@pytest.mark.slow
def test_without_a_compiler_the_trial_stays_eager(tmp_path: Path) -> None:
    found, told = run(tmp_path, CXX="/nonexistent/c++")
    assert found["compiled"] == [False, False]
    assert [timeless(e) for e in found["ours"]] == [timeless(e) for e in found["eager"]]
    assert "stays eager" in told
