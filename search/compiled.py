"""Whether torch.compile repays itself on this device, and the compiled networks that a worker keeps.

What compiling a network took and what its step gained are measured once a device and kept on disk, beside the kernels
that torch itself caches there, for all trials of the machine.
"""
# torch's own annotations are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import json
import logging
import os
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from resnet import NetSpec, cost
from search.augment import draw
from search.batches import Resident
from search.graph import WARM, Replayed
from search.spec import Compile, TrialSpec
from search.step import Step

KEPT = 8  # compiled networks of a process: torch keeps no more for one piece of code
TIMED = 3  # steps
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """What compiling one network took, and one training step without and with it. Seconds."""

    compile_s: float
    eager_s: float
    compiled_s: float

    def repays(self, training_s: float) -> bool:
        """Whether a training that takes so long without it gets shorter, compilation included."""
        return training_s * (1 - self.compiled_s / self.eager_s) > self.compile_s


# Hoped for where nothing has been measured yet: a minute for a tenth on cores, for a third on GPUs.
HOPED = {"cpu": Timing(60.0, 1.0, 0.9), "cuda": Timing(60.0, 1.0, 0.67)}


@dataclass(frozen=True)
class Chosen:
    """A network and what computes its logits in training."""

    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    compiled: bool


class Compiler:
    """Compiles the networks of a process's trials where that repays, and keeps them for later trials.

    Args:
        when: whether to compile.
        folder: of what is measured and of torch's compiled kernels, shared by the machine's processes.
    """

    def __init__(self, when: Compile, folder: Path) -> None:
        self._when, self._folder = when, folder
        self._kept: dict[tuple[NetSpec, int], Chosen] = {}
        # Now, because torch takes a folder of its own as soon as any part of its compiler is loaded.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "kernels"))

    def choose(self, spec: TrialSpec, model: nn.Module, split: Resident, decided: bool | None = None) -> Chosen:
        """The network to train, with the weights of `model`: `model` itself, or a compiled twin.

        Args:
            spec: the trial.
            model: on the device of `split`.
            split: the training split.
            decided: what was chosen when the trial began, for one that continues: the two round differently.
        """
        eager = Chosen(model, model, False)
        if not (self._wanted(spec, split) if decided is None else decided):
            return eager
        key = (spec.net, spec.train.batch_size)
        twin = self._kept.get(key) or self._compile(key, spec, model, split)
        if twin is None:
            return eager
        if self._when is Compile.AUTO and decided is None and not self._faster(spec, split):
            return eager
        twin.model.load_state_dict(model.state_dict())
        return twin

    def _wanted(self, spec: TrialSpec, split: Resident) -> bool:
        if self._when is not Compile.AUTO:
            return self._when is Compile.ALWAYS
        device = split.device
        known = _read(self._file(device))
        timing = known.get(_name(spec))
        if timing:
            steps = max(1, len(split) // spec.train.batch_size) * spec.train.epochs
            return timing.repays(timing.eager_s * steps)
        return _likely(list(known.values()), device).repays(_estimate(spec, split))

    def _faster(self, spec: TrialSpec, split: Resident) -> bool:
        device = split.device
        timing = _read(self._file(device))[_name(spec)]
        return timing.compiled_s < timing.eager_s

    def _compile(self, key: tuple[NetSpec, int], spec: TrialSpec, model: nn.Module, split: Resident) -> Chosen | None:
        if len(self._kept) == KEPT:
            self._kept.clear()
            torch.compiler.reset()
        device = split.device
        twin = deepcopy(model)
        forward = torch.compile(twin, dynamic=False)
        _, eager_s = _measure(spec, deepcopy(model), split, None)
        try:
            compile_s, compiled_s = _measure(spec, twin, split, forward)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of torch's compiler, such as a missing C++ compiler
            log.warning("the network cannot be compiled and stays eager (%s)", error)
            return None
        _write(self._file(device), _name(spec), Timing(max(0.0, compile_s - eager_s), eager_s, compiled_s))
        twin.zero_grad(set_to_none=True)
        self._kept[key] = Chosen(twin, forward, True)
        return self._kept[key]

    def _file(self, device: torch.device) -> Path:
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu-{torch.get_num_threads()}"
        return self._folder / f"{kind}-{torch.__version__}.json".replace(" ", "-")


def _measure(
    spec: TrialSpec, model: nn.Module, split: Resident, forward: Callable[[Tensor], Tensor] | None
) -> tuple[float, float]:
    """Seconds of the first step and of a later one (median), as trained: captured where there is a GPU."""
    step = Step(model, spec.train, split, forward)
    cuda = split.device.type == "cuda"
    advance = Replayed(step) if cuda else step
    draws = draw(spec.train, len(split), (split.images.shape[1], split.images.shape[2]), seed=0)
    seconds: list[float] = []
    model.train()
    for k in range((WARM + 1 if cuda else 1) + TIMED):
        if k % step.steps == 0:
            step.begin(draws, [0.0] * step.steps)
        step.feed()
        began = time.perf_counter()
        advance()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[0], statistics.median(seconds[-TIMED:])


def _estimate(spec: TrialSpec, split: Resident) -> float:
    """Seconds that the training takes at the very least: its multiplications at the device's own rate."""
    macs = 3 * cost(spec.net, (split.images.shape[1], split.images.shape[2])).macs  # backward is twice forward
    return macs * len(split) * spec.train.epochs / _macs_per_s(split.device)


@cache
def _macs_per_s(device: torch.device) -> float:
    """Of a large product; measured once a process, for it takes longer than a short trial needs to start."""
    side = 1024
    matrix = torch.ones(side, side, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
    seconds: list[float] = []
    for _ in range(TIMED):
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return side**3 / statistics.median(seconds)


def _likely(known: list[Timing], device: torch.device) -> Timing:
    """What to expect of a network not yet measured: the median of those that are."""
    if not known:
        return HOPED[device.type]
    return Timing(
        statistics.median(t.compile_s for t in known), 1.0, statistics.median(t.compiled_s / t.eager_s for t in known)
    )


def _name(spec: TrialSpec) -> str:
    return f"{spec.net.model_dump_json()} {spec.train.batch_size}"


def _read(file: Path) -> dict[str, Timing]:
    if not file.exists():
        return {}
    return {name: Timing(*seconds) for name, seconds in json.loads(file.read_text()).items()}


def _write(file: Path, name: str, timing: Timing) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps({k: astuple(v) for k, v in (_read(file) | {name: timing}).items()}))
    part.replace(file)
