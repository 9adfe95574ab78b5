"""One training step on the device alone: eager, compiled, or captured once and replayed."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_multi_avg_fn

from resnet import NetSpec, ResNet
from search.errors import first_line
from search.spec import TrainSpec, TrialSpec
from search.training.augment import Draws, batch, draw, shape
from search.training.batches import Resident, stream
from search.training.device import autocast
from search.training.loss import balanced_weights, training_loss
from search.training.optimiser import optimiser
from search.training.parallel import Group


class Average:
    """A second network that follows the first: each weight w becomes d w + (1 - d) w' after every step.

    Begins as a copy. Running statistics are averaged too; counters are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self._move = get_ema_multi_avg_fn(decay)
        mine, theirs = self.model.state_dict(), model.state_dict()
        floating = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        self._mine, self._theirs = [mine[n] for n in floating], [theirs[n] for n in floating]
        self._copied = [(mine[n], theirs[n]) for n in mine.keys() - {*floating}]

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the first network."""
        self._move(self._mine, self._theirs, None)
        for mine, theirs in self._copied:
            mine.copy_(theirs)


class Lean:
    """Computes a network's logits to the same bit, under autocast with fewer kernels.

    All weights become bfloat16 at once, and their gradients float32; all normalisations count their batches at once.
    For GPUs: on cores, where a kernel is a call, it takes longer than what it saves.
    """

    def __init__(self, model: ResNet) -> None:
        self._model = model
        modules = dict(model.named_modules())
        cast = [name for name, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)]
        self._weights = {n: w for n, w in model.named_parameters() if n.rpartition(".")[0] in cast}
        self._norms = {name: module for name, module in modules.items() if isinstance(module, nn.BatchNorm2d)}

    def __call__(self, images: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(images.device.type):
            return self._model(images)
        state: dict[str, Any] = dict(zip(self._weights, _Halves.apply(*self._weights.values()), strict=True))
        state |= {f"{name}.num_batches_tracked": None for name in self._norms}  # and no counter moves on its own
        logits = functional_call(self._model, state, (images,))
        training = [norm for norm in self._norms.values() if norm.training]
        counters = [norm.num_batches_tracked for norm in training if norm.num_batches_tracked is not None]
        if counters:
            torch._foreach_add_(counters, 1)  # pyright: ignore[reportPrivateImportUsage]
        return logits


class _Halves(torch.autograd.Function):
    """The float32 weights in bfloat16."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        halves = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in weights]
        torch._foreach_copy_(halves, weights)  # pyright: ignore[reportPrivateImportUsage]
        frozen = [half for half, trains in zip(halves, ctx.needs_input_grad, strict=True) if not trains]
        ctx.mark_non_differentiable(*frozen)
        ctx.set_materialize_grads(False)
        return tuple(halves)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        known = [gradient for gradient in gradients if gradient is not None]
        whole = [torch.empty_like(gradient, dtype=torch.float32) for gradient in known]
        torch._foreach_copy_(whole, known)  # pyright: ignore[reportPrivateImportUsage]
        found = iter(whole)
        return tuple(None if gradient is None else next(found) for gradient in gradients)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """While it is entered, what draws on the device of `generator` without naming one draws from it."""
    if generator.device.type == "cuda":
        default = torch.cuda.default_generators[generator.device.index]
        before = default.graphsafe_get_state()
        default.graphsafe_set_state(generator)  # not a copy: a captured graph goes on with the state that it has seen
        try:
            yield
        finally:
            default.graphsafe_set_state(before)
        return
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(before)


class Step:
    """Augment, forward, backward, optimiser, learning rate, averages and metrics; the host only says how often.

    Each call does the next step of the epoch that `begin` has laid out, after `feed`. Nothing in it reads a value back.
    `forward` computes the logits in training, such as the compiled model; default: the model, which is on the device of
    `split`.
    With a `group` each of its processes computes the same step, on its part of the batch.
    What draws inside the network (dropout, stochastic depth) draws from `generator`, so that steps of several trainings
    may take turns.
    """

    def __init__(
        self,
        model: ResNet,
        spec: TrainSpec,
        split: Resident,
        forward: Callable[[Tensor], Tensor] | None = None,
        group: Group | None = None,
    ) -> None:
        device = split.device
        self.steps, self.size = shape(len(split), spec.batch_size)
        if group:
            group.check(self.size)
            group.normalise_together(model)
        self.model, self.spec, self.split = model, spec, split
        self.optimiser = optimiser(model, spec, device)
        self.frozen = False
        self.average = Average(model, spec.ema) if spec.ema else None
        own = Lean(model) if device.type == "cuda" else model
        self._forward = own if forward is None else forward
        self.group = group
        self.generator = torch.Generator(device)
        balanced = spec.class_weights == "balanced"
        self._weights = balanced_weights(split.labels, model.spec.num_classes) if balanced else None
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._wrong = torch.zeros((), dtype=torch.float64, device=device)
        self._rows = torch.empty(0, 0, dtype=torch.uint8, device=device)
        self._fields: dict[str, tuple[slice, torch.dtype, torch.Size]] = {}  # of a row: where, and what it is
        held = self.size if split.streamed else 0
        self._images = torch.empty(held, *split.images.shape[1:], dtype=torch.uint8, device=device)
        self._incoming: Iterator[Tensor] = iter(())

    def freeze(self, frozen: bool) -> None:
        """Whether only the head trains from the next epoch on."""
        self.frozen = frozen
        self.optimiser.freeze(frozen)

    def begin(self, draws: Draws, rates: list[float]) -> None:
        """Lays out an epoch: what `augment.draw` gave, and the head's learning rate in each step."""
        self.model.train()
        if self.frozen:
            for layer in self.model.layers()[:-1]:
                layer.eval()  # its normalisations keep the statistics that they were loaded with
        factors = self.optimiser.factors
        rows = draws | {"rates": torch.tensor([[rate * factor for factor in factors] for rate in rates])}
        self._lay_out(rows)
        if self.split.streamed:
            self._incoming = stream(self.split.images, draws["order"], pinned=self._position.is_cuda)
        for counter in (self._position, self._loss, self._wrong):
            counter.zero_()

    def _lay_out(self, rows: Draws) -> None:
        """All that a step depends on as one line of bytes on the device, so that one kernel finds it."""
        # The widest numbers come first, so that each lies at a multiple of its size.
        names = sorted(rows, key=lambda name: -rows[name].element_size())
        lines = torch.cat([rows[name].reshape(self.steps, -1).view(torch.uint8) for name in names], 1)
        self._fields, begin = {}, 0
        for name in names:
            end = begin + rows[name][0].nbytes
            self._fields[name] = slice(begin, end), rows[name].dtype, rows[name].shape[1:]
            begin = end
        if self._rows.shape != lines.shape:
            self._rows = torch.empty_like(lines, device=self._position.device)
        self._rows.copy_(lines)  # always the same memory: a captured step knows addresses, not names

    def feed(self) -> None:
        """Before each step: what it needs from the host, which is nothing where the images are on the device."""
        if self.split.streamed:
            self._images.copy_(next(self._incoming), non_blocking=True)

    def __call__(self) -> None:
        line = self._rows.index_select(0, self._position)[0]
        row = {name: line[part].view(kind).view(shape) for name, (part, kind, shape) in self._fields.items()}
        self.optimiser.rates.copy_(row["rates"])
        made = batch(self.split, self.spec, row, self._images if self.split.streamed else None)
        images = self.group.part(made) if self.group else made.images
        with autocast(images.device), drawing_from(self.generator):
            logits = self._forward(images).float()
        if self.group:
            logits = self.group.whole(logits, len(made.labels))
        loss = training_loss(self.spec, logits, made, self._weights)
        self.optimiser.zero_grad()
        loss.backward()
        if self.group:
            self.group.add(self.optimiser.gradients)
        self.optimiser.step()
        if self.average:
            self.average.update()
        self._loss += loss.detach() * len(made.labels)
        answers = logits.detach().argmax(1)
        self._wrong += made.measured(lambda labels: (answers != labels).sum())
        self._position += 1

    def read(self) -> tuple[float, float]:
        """Mean loss (nats) and error (percent) of the steps since `begin`: the one wait for the device an epoch."""
        seen = int(self._position.item()) * self.size
        return self._loss.item() / seen, 100 * self._wrong.item() / seen


WARM = 3  # calls before the capture, in which libraries choose their kernels and the optimiser makes its buffers
Pool = Any  # of torch: an opaque pair of numbers
Found = TypeVar("Found")
log = logging.getLogger(__name__)


@cache
def _stream(device: torch.device, number: int) -> torch.cuda.Stream:
    """The streams of all captures of this process: cuBLAS keeps a workspace, 64 MiB, for each that it has seen."""
    return torch.cuda.Stream(device)


class Replayed(Generic[Found]):
    """What a GPU computes again and again: the first times eagerly, then captured as a graph.

    Every call computes; none is thrown away. Where the capture fails, all further calls are eager; the capture itself
    computes nothing, so nothing is lost.

    Args:
        name: of it, in a sentence.
        compute: reads no value back, and always works on the same memory. What it gives holds until the next call.
        device: the GPU.
        pool: memory that several graphs may use in turn, of `torch.cuda.graph_pool_handle`.
        around: entered for the capture, with the graph.
        failed: called when the capture has failed.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[], Found],
        device: torch.device,
        pool: Pool,
        around: Callable[[torch.cuda.CUDAGraph], AbstractContextManager[Any]] = nullcontext,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._name, self._compute, self._pool, self._around, self._failed = name, compute, pool, around, failed
        self._stream = _stream(device, 0)
        self._captured: tuple[torch.cuda.CUDAGraph, Found] | None = None
        self._eager = WARM

    def __call__(self) -> Found:
        if self._captured is None and self._eager == 0:
            self._captured = self._capture()
        if self._captured is not None:
            graph, found = self._captured
            graph.replay()
            return found
        self._eager -= 1  # below zero once a capture has failed
        # The capture needs streams of its own, and gradients know the stream that they were first computed on.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            found = self._compute()
        torch.cuda.current_stream().wait_stream(self._stream)
        return found

    def _capture(self) -> tuple[torch.cuda.CUDAGraph, Found] | None:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            # Another thread may be copying images to the device meanwhile.
            with (
                self._around(graph),
                torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
            ):
                return graph, self._compute()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = error.__context__ or error  # the end of a capture only says that something failed in it
            log.warning(
                "%s cannot be captured as a CUDA graph and stays eager (%s)", self._name, first_line(why, "no reason")
            )
            self._failed()
            return None


class Captured:
    """Calls `steps`, of trainings of their own on one GPU, as one graph: see `Replayed`.

    Each is a branch of the graph, so that the GPU computes kernels of several at once where one leaves it room. The
    steps are captured again whenever freezing starts or ends.
    """

    def __init__(self, steps: Sequence[Step], pool: Pool) -> None:
        self._steps, self._pool = steps, pool
        self._replayed, self._frozen = self._new(), self._freezing

    def __call__(self) -> None:
        if self._frozen != self._freezing:
            self._replayed, self._frozen = self._new(), self._freezing
        self._replayed()

    @property
    def _freezing(self) -> list[bool]:
        return [step.frozen for step in self._steps]

    def _new(self) -> Replayed[None]:
        # Of this object it knows nothing: a circle would keep memory of the GPU until Python looks for circles.
        steps, device = self._steps, self._steps[0].split.device
        work, failed = partial(_side_by_side, steps), partial(_reset_failed_capture, steps)
        return Replayed("the step", work, device, self._pool, partial(_register_generators, steps), failed)


def _side_by_side(steps: Sequence[Step]) -> None:
    """Each on its stream: from the first stream they part, and there they meet again."""
    first, *others = streams = [_stream(step.split.device, number) for number, step in enumerate(steps)]
    for other in others:
        other.wait_stream(first)
    for step, own in zip(steps, streams, strict=True):
        with torch.cuda.stream(own):
            step()
    for other in others:
        first.wait_stream(other)


@contextmanager
def _register_generators(steps: Sequence[Step], graph: torch.cuda.CUDAGraph) -> Iterator[None]:
    """While it is entered, the graph that is captured knows what the steps draw from."""
    first, *others = (step.generator for step in steps)
    if torch.__version__ < "2.14":  # from then on a graph finds out which generators are drawn from
        for generator in others:
            graph.register_generator_state(generator)
    with drawing_from(first):  # before 2.14 every graph knows the device's own generator: it stands for that
        yield


def _reset_failed_capture(steps: Sequence[Step]) -> None:
    """What a capture that failed has left in them."""
    for step in steps:
        step.optimiser.zero_grad()
        # torch 2.11 leaves the generator as if the capture went on, and dropout fails from then on.
        step.generator = step.generator.clone_state()


KERNELS = "TORCHINDUCTOR_CACHE_DIR"
KEPT = 4  # compiled networks of a process, whole and frozen: torch keeps no more than 8 for one piece of code


Key = tuple[
    NetSpec, int, int, float
]  # of what is compiled: network, images a step, their size, share of dropped branches


@dataclass(frozen=True)
class Network:
    """A network and what computes its logits in training."""

    model: ResNet
    forward: Callable[[Tensor], Tensor] | None  # the compiled network; None: the model is to be called
    compiled: bool


class Compiler:
    """Compiles the networks of a process's trials where `wanted`, and keeps them for later trials.

    `folder` has torch's compiled kernels, shared by the machine's processes.
    """

    def __init__(self, wanted: bool, folder: Path) -> None:
        self._wanted = wanted
        self._kept: dict[Key, Network] = {}
        self._kernels = str(folder / "kernels")

    def network(self, spec: TrialSpec, model: ResNet, split: Resident, compiled: bool | None = None) -> Network:
        """The network to train, with the weights of `model`: `model` itself, or a compiled twin.

        `compiled`: whether it was when the trial began, for one that continues: the two round differently.
        """
        eager = Network(model, None, False)
        if not (self._wanted if compiled is None else compiled):
            return eager
        key = (spec.net, spec.train.batch_size, spec.train.image_size, spec.train.stochastic_depth)
        twin = self._kept.get(key) or self._compile(key, spec, model, split)
        if twin is None:
            return eager
        twin.model.load_state_dict(model.state_dict())
        return twin

    def _compile(self, key: Key, spec: TrialSpec, model: ResNet, split: Resident) -> Network | None:
        if len(self._kept) == KEPT:
            self._kept.clear()
            torch.compiler.reset()
        _keep_kernels(self._kernels)
        twin = deepcopy(model).train()
        # Else the compiler times kernels, and on another node may choose one that adds in another order.
        forward = torch.compile(twin, dynamic=False, options={"deterministic": True})
        step = Step(twin, spec.train, split, forward)
        step.begin(draw(spec.train, len(split), (split.images.shape[1], split.images.shape[2]), 0), [0.0] * step.steps)
        try:
            step.feed()
            step()  # the first call compiles
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of torch's compiler, such as a missing C++ compiler
            log.warning("the network cannot be compiled and stays eager (%s)", error)
            return None
        step.optimiser.zero_grad()
        self._kept[key] = Network(twin, forward, True)
        return self._kept[key]


def _keep_kernels(folder: str) -> None:
    """Has torch's compiler keep its kernels in `folder`, unless the user has named another."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # noqa: PLC0415  takes seconds

    # Whatever loads a part of the compiler, such as torchvision, has torch's own folder written there.
    if os.environ.get(KERNELS) in (None, default_cache_dir()):
        os.environ[KERNELS] = folder
