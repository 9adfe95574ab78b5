"""How many trials share a card: figures by hand; a timing of a real network; what a divided machine runs at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from optuna.storages import InMemoryStorage

from resnet import cost
from search import training
from search.errors import InputError
from search.execution import host, packing
from search.execution.packing import Measured
from search.optimize import Proposer, Strategy
from search.optimize.schedulers import Halving
from search.records import Ledger
from search.spec import (
    DataInfo,
    LimitSpec,
    ResourceSpec,
    Sampler,
    SearchSpec,
    Share,
    Space,
    StudySpec,
    TrialSpec,
    appraise,
    load,
)
from search.spec.space import make
from search.training import speed

ROOT = Path(__file__).parents[2]
GIB = 2**30
FIXED = {"net.in_channels": 3, "net.num_classes": 10}


@pytest.mark.parametrize(
    ("totals", "trials"),
    [
        ({1: 100.0}, 1),  # no more have memory, cores or work
        ({1: 100.0, 2: 98.0}, 1),
        ({1: 100.0, 2: 102.9}, 1),  # within three percent of the best
        ({1: 100.0, 2: 103.2}, 2),
        ({1: 100.0, 2: 180.0, 3: 181.0}, 2),
        ({1: 100.0, 2: 180.0, 3: 240.0, 4: 260.0, 6: 263.0}, 4),
        ({1: 100.0, 2: 180.0, 3: 240.0, 4: 290.0, 6: 330.0}, 6),
        ({1: 100.0, 2: 180.0, 3: 150.0}, 2),
    ],
)
def test_the_smallest_number_that_is_about_as_fast_as_the_best(totals: dict[int, float], trials: int) -> None:
    assert packing.choose(totals) == trials


@pytest.mark.parametrize(
    ("totals", "goes_on"),
    [
        ({1: 100.0}, True),
        ({1: 100.0, 2: 103.0}, False),
        ({1: 100.0, 2: 103.1}, True),
        ({1: 100.0, 2: 180.0, 3: 185.3}, False),  # three percent of 180 are 5.4
        ({1: 100.0, 2: 180.0, 3: 185.5}, True),
        ({1: 100.0, 2: 180.0, 3: 90.0}, False),
    ],
)
def test_more_are_tried_while_they_gain(totals: dict[int, float], goes_on: bool) -> None:
    assert packing.gains(totals) == goes_on


@pytest.mark.parametrize(
    ("card", "trial", "trials"),
    [(80, 20, 3), (80, 24, 3), (80, 25, 2), (80, 79, 0)],  # of 80 GiB 0.9 are 72
)
def test_memory_is_for_so_many(card: int, trial: int, trials: int) -> None:
    assert packing.fit(card * GIB, trial * GIB) == trials


def test_the_line_names_what_was_measured() -> None:
    totals = {1: 121_000.0, 2: 190_400.0, 3: 241_000.0, 4: 243_000.0}
    decided = packing.decide(Measured("NVIDIA H200", 140 * GIB, 2 * GIB, 12, totals))
    assert str(decided) == (
        "3 trials on each GPU: at once on the NVIDIA H200, the largest network trains 1 at 121,000, 2 at 190,400, "
        "3 at 241,000, 4 at 243,000 images/s in all; it takes 2.0 of 140.0 GiB, and memory, cores and trials are "
        "enough for 12"
    )


ENDS = """
import os, sys, time
from pathlib import Path
from search.training import Team

class Loop:
    def __call__(self):
        yield "ready"
        os.kill(os.getpid(), 9)

if __name__ == "__main__":
    with Team(Loop()) as team:
        print(team.grow(2), len(team))
        try:
            team.images_per_s(2)
        except EOFError:
            print("died")
"""

SIDE_BY_SIDE = """
import torch
from search.spec import TrialSpec
from search.training import NoiseLoop, Team

if __name__ == "__main__":
    fixed = {"net.in_channels": 1, "net.num_classes": 10, "train.batch_size": 32, "train.crop_padding": 0}
    with Team(NoiseLoop(TrialSpec.from_flat(fixed | {"net.depth": 8}), (8, 8, 1), gpus=0)) as team:
        team.grow(2)
        print(team.images_per_s(1, 0.5), team.images_per_s(2, 0.5))
"""


def printed(program: str, folder: Path) -> list[str]:
    """By a program in a process of its own, whose processes import it again."""
    file = folder / "program.py"
    file.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_processes_train_side_by_side(tmp_path: Path) -> None:
    """Of how much, the machine says: two share its cores with other tests."""
    alone, both = map(float, printed(SIDE_BY_SIDE, tmp_path))
    assert 0 < both < 4 * alone


def test_a_process_that_dies_ends_the_turn(tmp_path: Path) -> None:
    assert printed(ENDS, tmp_path) == ["['ready',", "'ready']", "2", "died"]


def test_what_all_have_trained_in_the_time_that_they_have_in_common() -> None:
    """The second is there from 1 to 5. Of 10 images from 0 to 2 half count, of 30 from 4 to 7 a third."""
    spans = [speed.Span(0, 2, 10), speed.Span(2, 4, 20), speed.Span(4, 7, 30)], [speed.Span(1, 5, 8)]
    assert speed.common_rate(spans) == pytest.approx((5 + 20 + 10 + 8) / 4)


@pytest.mark.parametrize("trials", range(1, 101))
def test_a_share_is_one_of_so_many_as_ray_counts_them(trials: int) -> None:
    """Ray holds resources in ten-thousandths; so many shares fit on a card, and the next larger ones would not."""
    units = round(packing.share(trials) * 10_000)
    assert units / 10_000 == packing.share(trials)
    assert trials * units <= 10_000 < trials * (units + 1)
    given = host.divide(ResourceSpec(gpus_per_trial=packing.share(trials)), SearchSpec(), 1000, 2, "the cluster")
    assert given.concurrent >= 2 * trials
    assert ResourceSpec(gpus_per_trial=packing.share(trials)).gpus_per_trial == packing.share(trials)


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "concurrent"),
    [
        *(({"gpus_per_trial": part}, 100, 1, times) for part, times in ((0.1, 10), (0.3333, 3), (0.05, 20))),
        *(({"cpus_per_trial": part, "gpus_per_trial": 0}, 1, 0, times) for part, times in ((0.1, 10), (0.2, 5))),
        ({}, 8, 0, 8),  # auto is no GPU where there is none, and one until a trial is measured
        ({}, 8, 2, 2),
        ({"cpus_per_trial": 2}, 9, 0, 4),
    ],
)
def test_how_often_a_trial_fits(resources: dict[str, float], cpus: int, gpus: int, concurrent: int) -> None:
    """Decimal shares are not lost in binary: 1 // 0.1 is 9 in Python."""
    given = host.divide(ResourceSpec.model_validate(resources), SearchSpec(), cpus, gpus, "here")
    assert given.concurrent == concurrent
    assert given.gpus == resources.get("gpus_per_trial", 1 if gpus else 0)
    assert given.threads == max(1, resources.get("cpus_per_trial", 1))


def test_a_trial_on_two_gpus() -> None:
    given = host.divide(ResourceSpec(cpus_per_trial=3, gpus_per_trial=2), SearchSpec(), 16, 5, "the cluster")
    assert (given.gpus, given.processes, given.concurrent) == (2, 2, 2)
    assert (given.cpus_each, given.threads) == (1.5, 1)


def test_gpus_of_a_trial_are_those_of_one_machine() -> None:
    given = host.divide(ResourceSpec(gpus_per_trial=4), SearchSpec(), 16, 6, "the cluster")
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}] * 3
    with pytest.raises(InputError, match=r"gpus_per_trial = 4, but no machine .* more than 2 GPUs; ask for at most 2$"):
        host.check_machine(given, nodes, {})
    host.check_machine(given, nodes, {"available_node_types": {"large": {"resources": {"GPU": 8}}}})


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"resources.gpus_per_trial = 1, but here has 0 GPUs; ask for at most 0"):
        host.divide(ResourceSpec(gpus_per_trial=1), SearchSpec(), 8, 0, "here")


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("0.25", 0.25), ("1", 1.0), ("null", "auto")])
def test_what_may_be_set(text: str, value: object) -> None:
    changes = [("resources.gpus_per_trial", yaml.safe_load(text))]
    assert load(ROOT / "search" / "spec" / "studies" / "digits.yaml", changes).resources.gpus_per_trial == value


def largest(space: Space) -> TrialSpec:
    """Of 32 x 32 images."""
    ledger = Ledger(InMemoryStorage(), "study", space, lambda trial: appraise(trial, (32, 32), LimitSpec()))
    plan = Strategy(ledger, Proposer(space, Sampler.RANDOM, 0), Halving(1, 2, epochs=1), SearchSpec(), 1)
    return plan.largest((32, 32))


def test_the_largest_network_keeps_most_for_its_backward_pass() -> None:
    space = make(
        {"net.depth": [8, 20, 14], "net.width": [2.0, 1.0], "train.batch_size": [64, 512, 128]},
        FIXED | {"train.crop_padding": 0},
    )
    found = largest(space)
    assert (found.net.depth, found.net.width, found.train.batch_size) == (20, 2.0, 512)
    assert found.train.crop_padding == 0
    assert largest(make({"net.depth": [8]}, FIXED | {"train.batch_size": 33})).train.batch_size == 33


def test_noise_is_many_steps_of_small_images_and_few_of_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "DATA", 2**20)
    spec = TrialSpec.from_flat(FIXED | {"train.batch_size": 4})
    small = training.noise(spec, (8, 8, 3), torch.device("cpu"))
    assert tuple(small.images.shape) == (4 * speed.STEPS, 8, 8, 3)
    assert small.images.dtype == torch.uint8
    assert set(small.labels.tolist()) == set(range(10))
    large = training.noise(spec, (256, 256, 3), torch.device("cpu"))  # 786,432 bytes a batch
    assert len(large) == 4


TIMED = """
import sys, time, torch
from pathlib import Path
from search.training import speed
from search.spec.trial import TrialSpec
torch.set_num_threads(1)
import search.training.device
search.training.device.has_bf16 = lambda device: False  # float32, whatever the processor has
def peak():
    # of this process alone: getrusage would start at what the parent has held
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
def trial(batch, depth):
    fixed = {"net.in_channels": 3, "net.num_classes": 10, "train.crop_padding": 0}
    return TrialSpec.from_flat(fixed | {"net.depth": depth, "train.batch_size": batch})
speed.STEPS, speed.EVALUATED = 2, 2
speed.images_per_s(trial(2, 8), speed.noise(trial(2, 8), (32, 32, 3), torch.device("cpu")))
data = speed.noise(trial(256, 8), (32, 32, 3), torch.device("cpu"))
before, began = peak(), time.perf_counter()
rate = speed.images_per_s(trial(256, 8), data)
print(peak() - before, rate, len(data), time.perf_counter() - began)
"""


def test_a_timing_trains_the_network_at_its_batch_size() -> None:
    """More memory than autograd keeps for one batch of it, and a rate that fits the time that it took."""
    ran = subprocess.run(
        [sys.executable, "-c", TIMED], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    grown, rate, images, seconds = map(float, ran.stdout.split())
    spec = TrialSpec.from_flat(FIXED | {"net.depth": 8})
    assert grown > 256 * cost(spec.net, 32).activation_bytes > 100e6
    assert images == 2 * 256
    assert rate > (speed.EPOCHS - 1) * images / seconds, "the timed epochs took less than all did"


def data_of(images: int) -> DataInfo:
    sizes = {"n_train": images, "n_validation": 0, "n_test": 0}
    none = {"counts_validation": (0, 0), "counts_test": (0, 0)}
    return DataInfo(name="x", classes=("a", "b"), height=32, width=32, channels=3, **sizes, **none)


@pytest.mark.parametrize("reason", [packing.LARGE, packing.APART])
def test_what_cannot_share_a_gpu_has_one(reason: str) -> None:
    alone = packing.decide(reason)
    assert (alone.trials, str(alone)) == (1, f"1 trial on each GPU: {reason}")


@pytest.mark.parametrize("timed", ["images_per_s", "seconds"])
def test_what_is_timed_has_a_gpu_of_its_own(timed: str) -> None:
    """Without a measurement: Ray does not run here."""
    spec = StudySpec.model_validate(
        {"name": "x", "data": {"name": "digits"}, "search": {"objectives": ["val_error", timed]}}
    )
    given = Share(1.0, 1.0, 1, 1)
    largest = TrialSpec.from_flat(FIXED)
    share, decided = packing.pack(given, spec, largest, data_of(1), 8, lambda: False)
    assert share is given
    assert decided is not None
    assert str(decided) == f"1 trial on each GPU: {timed} would be of all trials on it"


def test_the_node_with_fewest_cores_for_a_gpu_counts() -> None:
    has = [{"CPU": 64.0, "GPU": 4.0}, {"CPU": 20.0, "GPU": 2.0}, {"CPU": 8.0}]
    nodes = [{"Alive": True, "Resources": each} for each in has]
    nodes.append({"Alive": False, "Resources": {"CPU": 1.0, "GPU": 1.0}})
    assert packing.cores_per_gpu(nodes, 1) == 10
    assert packing.cores_per_gpu(nodes, 4) == 2
    assert packing.cores_per_gpu(nodes[2:], 4) is None
