"""What is measured on a GPU, part by part; each part runs in a process of its own and yields figures."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.promises import constant, left_by_trials, promises
from benchmarks.report import machine, quartiles, ratios, spread
from benchmarks.trial import ceilings, cifar10_run
from benchmarks.trial.loops import BATCH, OnNoise
from benchmarks.trial.speed import gpu_turns
from resnet import NetSpec
from resnet.costs import cost
from search import Study
from search.data import prepare
from search.errors import first_line
from search.mps import join
from search.spec import DataSpec, TrainSpec, TrialSpec
from search.training import Compiler, NoiseLoop, Team, device

IMAGE = (32, 32, 3)
NETWORKS: dict[int, dict[str, Any]] = {20: {}, 56: {}, 110: {}, 164: {"unit": "bottleneck", "version": "v2"}}
PACKED = (20, 110)  # of the networks, those that are packed and compiled
PROCESSES = (1, 2, 3, 4, 6, 8)
BRANCHES = (1, 2, 3, 5)
PROFILED = 20  # steps
MIB = 2**20

# The goals, in images/s, with a batch of 128 in bfloat16 on an H200.
ONE_TRIAL = {20: 120e3, 56: 45e3, 110: 22e3, 164: 11e3}
SIDE_BY_SIDE = {20: 310e3, 110: 55e3}  # 60 % of the floor operation by operation
NODES = {20: 311, 56: 779, 110: 1481, 164: 2125}  # of the captured graph of a step, as tests/card counts them
OVER_REFERENCE = 5.0
RECIPE_SECONDS = 75.0
PUBLISHED_ERROR = 8.75  # percent, of ResNet-20: arXiv:1512.03385, table 6


@dataclass(frozen=True)
class Figure:
    """One quantity, each time that it was measured."""

    what: str
    unit: str
    values: list[float]
    goal: float | None = None
    at_most: bool = False  # the goal, else at least
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None without a goal."""
        if self.goal is None:
            return None
        median = quartiles(self.values)[1]
        return median <= self.goal if self.at_most else median >= self.goal


def spec(depth: int) -> TrialSpec:
    """A trial that outlasts any measurement, of noise that it is not to learn."""
    net = NetSpec.model_validate({"depth": depth} | NETWORKS[depth])
    return TrialSpec(net=net, train=TrainSpec(batch_size=BATCH, epochs=100_000, lr=1e-6))


def rates(loop: OnNoise, n: int) -> tuple[float, list[float]]:
    """Seconds before the first step, and images/s of `n` epochs after the first."""
    started = time.monotonic()
    first, *spans = islice(loop(), n + 1)
    return first.began - started, [span.images / (span.ended - span.began) for span in spans]


def check(asked: argparse.Namespace) -> Iterator[Figure]:
    """Whether the promises hold."""
    left = left_by_trials()
    note = f"{left[1] / MIB:.0f} MiB after the second trial, at most {max(left[2:]) / MIB:.0f} after a later one"
    yield Figure("trials leave no memory behind", "", [int(constant(left))], 1, note=note)
    for case in asked.cases:
        try:
            kept = promises(case)
            broken = [promise for promise, holds in kept.items() if not holds]
        except Exception as error:  # whatever it is, the other cases are still to be asked
            kept, broken = {}, [f"{type(error).__name__}: {first_line(error)}"]
        yield Figure(f"{case}: promises kept", "", [sum(kept.values())], len(kept) or 1, note="; ".join(broken))


def steps(asked: argparse.Namespace) -> Iterator[Figure]:
    """What the card can do, and one trial at a time beside its goal and both floors."""
    copy, product = ([rate() for _ in range(asked.n)] for rate in (ceilings.copy, ceilings.bf16_matmul))
    yield Figure("copy, read and written", "TB/s", [rate / 1e12 for rate in copy], note="the goals assume 4.3")
    yield Figure("bf16 product", "TFLOP/s", [rate / 1e12 for rate in product])
    for depth in asked.networks:
        trial = spec(depth)
        _, found = rates(OnNoise(trial, IMAGE, asked.steps), asked.n)
        floors = {
            "operation by operation": moved(trial) / max(copy),
            "five passes over kept maps": ceilings.floor_seconds(cost(trial.net), BATCH, max(product), max(copy))[0],
        }
        step = BATCH / quartiles(found)[1]
        note = "; ".join(f"floor {name}: {BATCH / t:,.0f} ({t / step:.0%})" for name, t in floors.items())
        yield Figure(f"ResNet-{depth}, one trial", "images/s", found, ONE_TRIAL[depth], note=note)
    free, total = torch.cuda.mem_get_info()
    beside = (total - free - torch.cuda.memory_reserved()) / MIB
    yield Figure("memory beside that of torch's allocator", "MiB", [beside], device.CONTEXT / MIB, at_most=True)


def moved(trial: TrialSpec) -> int:
    """Bytes that an eager step reads and writes, operation by operation; the second step, whose buffers are there."""
    epochs = OnNoise(trial, IMAGE, 1)()
    next(epochs)
    with ceilings.Traffic("cuda") as traffic:
        next(epochs)
    return traffic.bytes


def kernels(asked: argparse.Namespace) -> Iterator[Figure]:
    """What the profiler sees of an epoch of captured steps."""
    for depth in asked.networks:
        epochs = OnNoise(spec(depth), IMAGE, PROFILED)()
        next(epochs)
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            next(epochs)
        ran = [each for each in seen.key_averages() if each.device_type == DeviceType.CUDA]  # else of the host's calls
        ran.sort(key=lambda kernel: -kernel.self_device_time_total)
        if not ran:
            raise RuntimeError("the profiler saw no kernel")
        longest = "; ".join(f"{k.key[:60]} {k.self_device_time_total / PROFILED:.0f} µs" for k in ran[:3])
        count = sum(kernel.count for kernel in ran) / PROFILED
        busy = sum(kernel.self_device_time_total for kernel in ran) / PROFILED
        most = round(1.01 * NODES[depth])  # an epoch has a few of its own
        yield Figure(f"ResNet-{depth}, kernels a step", "", [count], most, at_most=True, note=longest)
        yield Figure(f"ResNet-{depth}, time in kernels a step", "µs", [busy])


def packing(asked: argparse.Namespace, together: bool = False) -> Iterator[Figure]:
    """Trials in processes of their own on one card, as a study measures them; they share its time."""
    way = "MPS" if together else "no MPS"
    for depth in [depth for depth in PACKED if depth in asked.networks]:
        found: dict[int, list[float]] = {}
        with Team(NoiseLoop(spec(depth), IMAGE)) as team:
            ready = team.grow(max(PROCESSES))
            if ready[0].together != together:
                raise RuntimeError("MPS does not run" if together else "MPS runs, so that nothing is measured without")
            for processes in PROCESSES:
                found[processes] = [team.images_per_s(processes) for _ in range(asked.n)]
                over = quartiles(found[processes])[1] / quartiles(found[1])[1]
                what = f"ResNet-{depth}, {processes} processes, {way}"
                yield Figure(what, "images/s", found[processes], note=f"{over:.2f} x one")
        best = max(found, key=lambda processes: quartiles(found[processes])[1])
        yield Figure(f"ResNet-{depth}, {best} processes, {way}, the best", "images/s", found[best], SIDE_BY_SIDE[depth])


def mps(asked: argparse.Namespace) -> Iterator[Figure]:
    """The same under NVIDIA's multi-process service, which is started where none runs, and ends with this process."""
    failed = join()
    if failed:
        raise RuntimeError(failed)
    yield from packing(asked, together=True)


def branches(asked: argparse.Namespace) -> Iterator[Figure]:
    """Seeds as branches of one captured step in one process, and beside them a process for each seed."""
    way = "no MPS" if join() else "MPS"
    for depth in [depth for depth in PACKED if depth in asked.networks]:
        one = 0.0
        with Team(NoiseLoop(spec(depth), IMAGE)) as team:
            team.grow(max(BRANCHES))
            for count in BRANCHES:
                _, ours = rates(OnNoise(spec(depth), IMAGE, asked.steps, together=count), asked.n)
                theirs = [team.images_per_s(count) for _ in range(asked.n)]
                one = one or quartiles(ours)[1]
                note = f"{quartiles(ours)[1] / one:.2f} x one; {spread(ratios(ours, theirs), 2)} x as many processes"
                yield Figure(f"ResNet-{depth}, {count} branches", "images/s", ours, note=note)
                yield Figure(f"ResNet-{depth}, {count} processes beside them, {way}", "images/s", theirs)


def compiled(asked: argparse.Namespace) -> Iterator[Figure]:
    """What torch.compile costs before the first step, and what it gains in each."""
    with tempfile.TemporaryDirectory() as folder:
        compiler = Compiler(True, Path(folder))
        for depth in [depth for depth in PACKED if depth in asked.networks]:
            trial = spec(depth)
            before, plain = rates(OnNoise(trial, IMAGE, asked.steps), asked.n)
            took, fast = rates(OnNoise(trial, IMAGE, asked.steps, compiler), asked.n)
            a, b = (quartiles(found)[1] for found in (plain, fast))
            pays = f"{(took - before) / (1 / a - 1 / b):,.0f} images" if b > a else "no number of images"
            yield Figure(f"ResNet-{depth}, before the first step, compiled", "s", [took], note=f"eager {before:.1f} s")
            note = f"{b / a:.2f} x eager {spread(plain)}; pays off after {pays}"
            yield Figure(f"ResNet-{depth}, compiled", "images/s", fast, note=note)


def loops(asked: argparse.Namespace) -> Iterator[Figure]:
    """Our loop against the one that users copy, in turns."""
    for depth in [depth for depth in (20, 56) if depth in asked.networks]:
        _, _, turns = gpu_turns(depth, "cifar10", asked.data_dir, 0, asked.n)
        ours, theirs = ([turn.images_per_s for turn in each] for each in turns)
        note = f"ours {spread(ours)}, reference {spread(theirs)} images/s"
        yield Figure(f"ResNet-{depth}, ours over reference", "x", ratios(ours, theirs), OVER_REFERENCE, note=note)


def recipe(asked: argparse.Namespace) -> Iterator[Figure]:
    """ResNet-20 by the papers' recipe, on the training and the validation split, tested once."""
    prepared = prepare(DataSpec(name="cifar10", dir=asked.data_dir))
    trial = cifar10_run.of_the_papers(asked.epochs)
    began = time.perf_counter()
    *_, tested = cifar10_run.ours(trial, prepared, whole=True)
    took = time.perf_counter() - began
    note = f"published {PUBLISHED_ERROR} %; one seed, {asked.epochs} epochs"
    yield Figure("ResNet-20, test error by the papers' recipe", "%", [tested["test/error"]], note=note)
    yield Figure("ResNet-20, that training and test", "s", [took], RECIPE_SECONDS, at_most=True)


def service(asked: argparse.Namespace) -> Iterator[Figure]:
    """A short study with all that belongs to it."""
    trials, epochs = 16, 10
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "search.run", "cifar10", "--output", folder, "--trials", str(trials)]
        command += ["--epochs", str(epochs), "--time-budget", "4m", "--set", "finals.time_budget=2m"]
        command += ["--data-dir", asked.data_dir] if asked.data_dir else []
        began = time.perf_counter()
        subprocess.run(command, stdout=sys.stderr, check=True, timeout=500)
        took = time.perf_counter() - began
        found = Study.open(f"{folder}/cifar10").trials
    well, busy = len(found.ranked()), sum(trial.seconds or 0.0 for trial in found)
    best = f"{found.ranked()[0].measured:.2f} % is the best validation error" if well else ""
    yield Figure("cifar10: trials that ended well", "", [well], trials, note=best)
    note = f"of it {busy:,.0f} s in training and validation of the trials, added up"
    yield Figure(f"cifar10: {trials} trials of up to {epochs} epochs, finals, report", "s", [took], note=note)


Part = Callable[[argparse.Namespace], Iterator[Figure]]
PARTS: dict[str, Part] = {
    part.__name__: part for part in (check, steps, kernels, packing, mps, branches, compiled, loops, recipe, service)
}


def on_a_gpu() -> Iterator[str]:
    """The machine, its card and driver, in one line."""
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} sees no GPU")
    driver = "unknown"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    yield f"{machine()[:-1]}; CUDA {torch.version.cuda}, driver {driver}, {memory:.0f} GiB."
