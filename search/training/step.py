"""One training step on the device alone: eager, compiled, or captured once and replayed.

What compiling a network took and what its step gained are measured once a device and kept on disk, beside the kernels
that torch itself caches there, for all trials of the machine.
"""

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as ops
from torch.optim.sgd import sgd
from torch.optim.swa_utils import get_ema_multi_avg_fn

from resnet import NetSpec, cost
from search.spec import Compile, TrainSpec, TrialSpec
from search.training.augment import Batch, Draws, batch, draw, shape
from search.training.batches import Resident, stream
from search.training.device import autocast


class Average:
    """A second network that follows the first: each weight w becomes d w + (1 - d) w' after every step.

    Running statistics are averaged too; counters are copied. Begins as a copy.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self._move = get_ema_multi_avg_fn(decay)
        mine, theirs = self.model.state_dict(), model.state_dict()
        floating = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        self._mine, self._theirs = [mine[n] for n in floating], [theirs[n] for n in floating]
        self._copied: list[tuple[Tensor, Tensor]] = [(mine[n], theirs[n]) for n in mine if n not in set(floating)]

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the first network."""
        self._move(self._mine, self._theirs, None)
        for mine, theirs in self._copied:
            mine.copy_(theirs)


class Step:
    """Augment, forward, backward, optimiser, learning rate, averages and metrics; the host only says how often.

    Each call does the next step of the epoch that `begin` has laid out, after `feed`. Nothing in it reads a value back.

    Args:
        model: on the device of `split`, in training mode while it is called.
        spec: the training.
        split: the training split.
        forward: what computes the logits, such as the compiled model; default: the model.
    """

    def __init__(
        self, model: nn.Module, spec: TrainSpec, split: Resident, forward: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        device = split.device
        self.model, self.spec, self.split = model, spec, split
        self.optimiser = SGD(model, spec, device)
        self.average = Average(model, spec.ema) if spec.ema else None
        self.steps, self.size = shape(len(split), spec.batch_size)
        self._forward = model if forward is None else forward
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._wrong = torch.zeros((), dtype=torch.float64, device=device)
        self._rows: Draws = {}
        held = self.size if split.streamed else 0
        self._images = torch.empty(held, *split.images.shape[1:], dtype=torch.uint8, device=device)
        self._incoming: Iterator[Tensor] = iter(())

    def begin(self, draws: Draws, rates: list[float]) -> None:
        """Lays out an epoch: what `augment.draw` gave, and the learning rate of each step."""
        rows = draws | {"rate": torch.tensor(rates)}
        for name, values in rows.items():
            # Always the same memory: a captured step knows addresses, not names.
            self._rows.setdefault(name, torch.empty_like(values, device=self._position.device)).copy_(values)
        if self.split.streamed:
            self._incoming = stream(self.split.images, draws["order"], self._position.device)
        for counter in (self._position, self._loss, self._wrong):
            counter.zero_()

    def feed(self) -> None:
        """Before each step: what it needs from the host, which is nothing where the images are on the device."""
        if self.split.streamed:
            self._images.copy_(next(self._incoming))

    def __call__(self) -> None:
        row = {name: rows.index_select(0, self._position)[0] for name, rows in self._rows.items()}
        self.optimiser.rate.copy_(row["rate"])
        made = batch(self.split, self.spec, row, self._images if self.split.streamed else None)
        with autocast(made.images.device):
            logits = self._forward(made.images).float()
        loss = self._criterion(logits, made)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        if self.average:
            self.average.update()
        self._loss += loss.detach() * len(made.labels)
        self._wrong += _wrong(logits.detach().argmax(1), made)
        self._position += 1

    def read(self) -> tuple[float, float]:
        """Mean loss (nats) and error (percent) of the steps since `begin`: the one wait for the device an epoch.

        With mixup a wrong answer counts by the share of the label that it misses.
        """
        seen = int(self._position.item()) * self.size
        return self._loss.item() / seen, 100 * self._wrong.item() / seen

    def _criterion(self, logits: Tensor, made: Batch) -> Tensor:
        return _shared(
            lambda labels: ops.cross_entropy(logits, labels, label_smoothing=self.spec.label_smoothing), made
        )


def _wrong(answers: Tensor, made: Batch) -> Tensor:
    return _shared(lambda labels: (answers != labels).sum(), made)


def _shared(measure: Callable[[Tensor], Tensor], made: Batch) -> Tensor:
    """What is measured against the labels; with mixup against both, each by its share."""
    if made.mixed is None:
        return measure(made.labels)
    others, share = made.mixed
    return share * measure(made.labels) + (1 - share) * measure(others)


class SGD:
    """`torch.optim.SGD`, fused, by its function: the class loads torch's compiler, two seconds of every worker's start.

    Args:
        model: on `device`; every parameter has a gradient at each step.
        spec: the training.
        device: where it is.
    """

    def __init__(self, model: nn.Module, spec: TrainSpec, device: torch.device) -> None:
        self.parameters = list(model.parameters())
        self.momentum: list[Tensor | None] = [None for _ in self.parameters]  # in their order; None before a step
        self.rate = torch.tensor(spec.lr, dtype=torch.float32, device=device)  # so that a captured step can move it
        self._spec = spec

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters by their gradients."""
        spec, gradients = self._spec, [parameter.grad for parameter in self.parameters]
        sgd(
            [*self.parameters],
            [gradient for gradient in gradients if gradient is not None],
            self.momentum,
            fused=True,
            lr=self.rate,
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
            nesterov=spec.nesterov and spec.momentum > 0,
            dampening=0,
            maximize=False,
        )


WARM = 3  # steps before the capture, in which libraries choose their kernels and the optimiser makes its buffers
log = logging.getLogger(__name__)


class Replayed:
    """Calls `step` on its GPU: the first times eagerly, then captured. Every call trains; none is thrown away.

    Where the capture fails, all further steps are eager; the capture itself computes nothing, so no step is lost.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._stream = torch.cuda.Stream(step.split.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager = WARM

    def __call__(self) -> None:
        if self._graph is None and self._eager == 0:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
            return
        self._eager -= 1
        # The capture needs a stream of its own, and gradients know the stream that they were first computed on.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step()
        torch.cuda.current_stream().wait_stream(self._stream)

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            # Another thread may be copying images to the device meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("the step cannot be captured as a CUDA graph and stays eager (%s)", error)
            self._step.optimiser.zero_grad()
            self._eager = -1
        else:
            self._graph = graph


KEPT = 8  # compiled networks of a process: torch keeps no more for one piece of code
TIMED = 3  # steps


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
