"""One trial as a generator of epochs, with its learning-rate schedule."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as ops

from resnet import build, drop_branches, load_pretrained
from search.spec import Schedule, TrainSpec, TrialSpec
from search.training.augment import Draws, draw
from search.training.batches import Resident, evaluation_batches
from search.training.device import autocast, system_metrics
from search.training.parallel import Group
from search.training.step import Captured, Compiler, Network, Pool, Replayed, Step

_WARM = 0.1  # of lr during `warmup_steps` (arXiv:1603.05027, appendix: 0.01 before 0.1)
_START, _END = 1 / 25, 1 / 25e4  # of lr at both ends of a cycle, torch's OneCycleLR


def learning_rate(spec: TrainSpec, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps` in the whole training."""
    if step < spec.warmup_steps:
        return spec.lr * _WARM
    progress = step / steps
    match spec.schedule:
        case Schedule.CONSTANT:
            factor = 1.0
        case Schedule.STEPS:
            factor = 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
        case Schedule.COSINE:
            factor = _cosine(1.0, 0.0, max(0.0, progress - spec.warmup) / (1 - spec.warmup))
        case Schedule.ONE_CYCLE:
            return spec.lr * _cycle(spec.warmup, step, steps)
    return spec.lr * factor * (min(1.0, progress / spec.warmup) if spec.warmup else 1.0)


def _cycle(rising: float, step: int, steps: int) -> float:
    top = rising * steps - 1  # as torch counts: from step 0, and the last has the lowest rate
    return _cosine(_START, 1.0, step / top) if step < top else _cosine(1.0, _END, (step - top) / (steps - 1 - top))


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * part))


EVALUATION_BATCH = 512


@dataclass(frozen=True)
class State:
    """Everything that the next epoch depends on, but for order and augmentation, which follow from seed and epoch."""

    epoch: int  # epochs trained
    weights: dict[str, Tensor]
    momentum: dict[str, Tensor]  # the optimiser's state
    average: dict[str, Tensor] = field(default_factory=dict[str, Tensor])  # averaged weights, where there are any
    compiled: bool = False  # a compiled network rounds differently, so a trial stays as it began


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. Errors in percent, time in seconds, losses in nats."""

    training: int  # which it is of those that are trained together, from 0
    number: int  # from 1
    metrics: dict[str, float]
    diverged: bool
    model: nn.Module  # that was validated: the averaged one where there is one
    begin_copy: Callable[[], Callable[[], State]]  # of the state to the host; what it returns waits for the end of that

    def state(self) -> State:
        """A copy of what the next epoch depends on. As `begin_copy` only until the next epoch is asked for."""
        return self.begin_copy()()


Start = State | Mapping[str, Tensor] | None


def train(
    spec: TrialSpec,
    training: Resident,
    validation: Resident | None,
    start: Start = None,
    compiler: Compiler | None = None,
    group: Group | None = None,
) -> Iterator[Epoch]:
    """Trains `spec` on the device where `training` lives; yields after each epoch, to the last or until it diverges.

    Args:
        spec: network and training.
        training, validation: splits on one device. Without `validation` there are no metrics `val/*`, and a trial
            diverges by its training loss alone.
        start: a state to continue after, bit for bit as without the interruption on the same hardware and number of
            threads; or the weights that `spec.train.start` names, see `resnet.load_pretrained`. Default: weights are
            drawn.
        compiler: may compile the network; default: none is compiled.
        group: processes that all call this with the same arguments and train together; each yields the same epochs.
            Their steps are neither compiled nor captured.

    Raises:
        ValueError: the weights of `start` are of another network.
    """
    for (epoch,) in train_together([(spec, start)], training, validation, compiler, group):
        yield epoch


def train_together(
    trainings: Sequence[tuple[TrialSpec, Start]],
    training: Resident,
    validation: Resident | None,
    compiler: Compiler | None = None,
    group: Group | None = None,
) -> Iterator[list[Epoch]]:
    """Trains several at once, each to the bit as `train` does it alone; yields the epochs of one number together.

    They have epochs and batch size in common. On a GPU their steps are the branches of one captured graph. One that
    diverges leaves the others; those that have trained for more epochs wait until the others have caught up.
    `cost/seconds` of each is its part of the time, `cost/images_per_s` the speed of all.

    Args:
        trainings: each with its start, as of `train`.
        training, validation, compiler, group: as of `train`; only one alone may be compiled or have a group.

    Raises:
        ValueError: epochs or batch sizes differ, or one of several was compiled; and as `train`.
    """
    device = training.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # the trial before it may have taken more
    # Other algorithms of cuDNN add in an order that changes from run to run.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    if len({(spec.train.epochs, spec.train.batch_size) for spec, _ in trainings}) > 1:
        raise ValueError("trainings of several epochs or batch sizes cannot be trained together")
    if len(trainings) > 1 and any(isinstance(start, State) and start.compiled for _, start in trainings):
        raise ValueError("what has been compiled is trained alone")
    last = trainings[0][0].train.epochs
    # Memory that all graphs use in turn; without it nothing is captured.
    pool = torch.cuda.graph_pool_handle() if device.type == "cuda" and group is None else None
    members = [_Training(n, *given, training, compiler, group) for n, given in enumerate(trainings)]
    if validation is not None:
        for member in members:
            member.validate_on(validation, pool)
    active: list[_Training] = []
    advance: Callable[[], None] = partial(_in_turn, ())
    for number in range(1 + min(member.epoch for member in members), last + 1):
        behind = [member for member in members if member.epoch < number]
        if not behind:
            continue
        if behind != active:
            active, steps = behind, [member.step for member in behind]
            advance = Captured(steps, pool) if pool else partial(_in_turn, steps)
        began = time.perf_counter()
        losses = _train_epoch(active, advance)
        seconds = (time.perf_counter() - began) / len(active)
        epochs = [member.ended(*each, seconds) for member, each in zip(active, losses, strict=True)]
        yield epochs
        diverged = {epoch.training for epoch in epochs if epoch.diverged}
        members = [member for member in members if member.which not in diverged]


class _Training:
    """One of those that are trained together."""

    def __init__(
        self,
        which: int,
        spec: TrialSpec,
        start: Start,
        training: Resident,
        compiler: Compiler | None,
        group: Group | None,
    ) -> None:
        torch.manual_seed(_seed(spec.train.seed, 0))
        model = build(spec.net)
        resume = start if isinstance(start, State) else None
        if start is not None and not isinstance(start, State):
            load_pretrained(model, start)
        if spec.train.stochastic_depth:
            drop_branches(model, spec.train.stochastic_depth)
        model = model.to(device=training.device)
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        network = Network(model, None, False)
        if compiler and not group:
            network = compiler.network(spec, model, training, resume.compiled if resume else None)
        self.which, self.epoch, self.compiled = which, resume.epoch if resume else 0, network.compiled
        self.step = Step(network.model, spec.train, training, network.forward, group)
        if resume is not None:
            _load(self.step, resume)
        self.validated = self.step.average.model if self.step.average else network.model
        self._answers: Answers | None = None
        self._draws = self._draw(self.epoch + 1)

    def validate_on(self, validation: Resident, pool: Pool | None) -> None:
        """After every epoch; `pool` as of `Answers`."""
        seen = validation.at(self.step.spec.image_size)
        self._answers = Answers(self.validated, seen, self.step.group, pool)

    def begin(self) -> None:
        """Lays out the next epoch."""
        step, spec, number = self.step, self.step.spec, self.epoch + 1
        first, every = (number - 1) * step.steps, spec.epochs * step.steps
        step.freeze(number <= spec.freeze_epochs)
        step.begin(self._draws, [learning_rate(spec, first + k, every) for k in range(step.steps)])
        # Of dropout, and of the branches that are dropped: in each process of a group for other images.
        rank = step.group.rank if step.group else 0
        step.generator.manual_seed(_seed(spec.seed, number, rank) if rank else _seed(spec.seed, number))

    def draw_ahead(self) -> None:
        """Draws what chance decides about the epoch after the next."""
        self._draws = self._draw(self.epoch + 2)

    def _draw(self, number: int) -> Draws:
        spec, images = self.step.spec, self.step.split.images
        if number > spec.epochs:
            return {}
        return draw(spec, len(self.step.split), (images.shape[1], images.shape[2]), _seed(spec.seed, number))

    def ended(self, loss: float, error: float, seconds: float) -> Epoch:
        """The epoch that has been trained, in `seconds` and with this loss and error, once it is validated."""
        step, began = self.step, time.perf_counter()
        metrics = {"train/loss": loss, "train/error": error}
        if self._answers is not None:
            metrics |= {f"val/{name}": value for name, value in self._answers().metrics.items()}
        diverged = not (math.isfinite(loss) and math.isfinite(metrics.get("val/loss", 0.0)))
        metrics["cost/images_per_s"] = step.steps * step.size / seconds
        metrics["cost/seconds"] = seconds + time.perf_counter() - began
        metrics |= system_metrics(step.split.device)
        self.epoch += 1
        begin_copy = partial(_begin_copy, step, self.epoch, self.compiled)
        return Epoch(self.which, self.epoch, metrics, diverged, self.validated, begin_copy)


def _in_turn(steps: Sequence[Step]) -> None:
    for step in steps:
        step()


@dataclass(frozen=True)
class Evaluation:
    """What a network says of a split, and how far that is right."""

    loss: float  # mean cross-entropy, in nats
    labels: NDArray[np.int64]  # (n,)
    given: NDArray[np.int64]  # (n,), the class of the largest logit
    probability: NDArray[np.float32]  # (n,), of that class

    @property
    def metrics(self) -> dict[str, float]:
        """Loss, error, and the mean of the errors of the classes that have images, in percent."""
        wrong = self.labels != self.given
        images, lost = np.bincount(self.labels), np.bincount(self.labels, wrong)
        shares = lost[images > 0] / images[images > 0]
        return {
            "loss": self.loss,
            "error": 100.0 * int(wrong.sum()) / len(wrong),
            "balanced_error": 100.0 * float(shares.mean()),
        }


class Answers:
    """Runs a network on a split, each image once; where a GPU holds the images, as `Replayed` with that `pool`.

    With a `group` each of its processes runs it on its part, and all know the whole.
    """

    def __init__(self, model: nn.Module, split: Resident, group: Group | None = None, pool: Pool | None = None) -> None:
        self._labels = split.labels
        self._run: Callable[[], tuple[Tensor, Tensor, Tensor]] = partial(_answers, model, split, group)
        if pool is not None and not split.streamed:
            self._run = Replayed("the evaluation", self._run, split.device, pool)

    def __call__(self) -> Evaluation:
        loss, given, probability = self._run()
        labels, given, probability = (each.cpu().numpy() for each in (self._labels, given, probability))
        return Evaluation(loss.item() / len(labels), labels, given, probability)


@torch.no_grad()
def _answers(model: nn.Module, split: Resident, group: Group | None) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the cross-entropies; of each image the class of the largest logit, and its probability."""
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=split.device)
    given = torch.zeros(len(split), dtype=torch.int64, device=split.device)
    probability = torch.zeros(len(split), device=split.device)
    own = group.slice(len(split)) if group else slice(0, len(split))
    for part, images, labels in evaluation_batches(split, EVALUATION_BATCH, own):
        with autocast(images.device):
            logits = model(images).float()
        loss += ops.cross_entropy(logits, labels, reduction="sum")
        given[part] = logits.argmax(1)
        probability[part] = logits.softmax(1).gather(1, given[part][:, None])[:, 0]
    if group:
        for each in (loss, given, probability):
            group.add([each])
    return loss, given, probability


def evaluate(model: nn.Module, split: Resident) -> Evaluation:
    """Runs the network on a split, each image once."""
    return Answers(model, split)()


def _train_epoch(members: Sequence[_Training], advance: Callable[[], None]) -> list[tuple[float, float]]:
    """Mean loss and error in percent of the next epoch of each; `advance` calls all of their steps once."""
    steps = [member.step for member in members]
    for member in members:
        member.begin()
    for _ in range(steps[0].steps):
        for step in steps:
            step.feed()
        advance()
    for member in members:
        member.draw_ahead()  # while a GPU still computes
    return [step.read() for step in steps]


def _begin_copy(step: Step, epoch: int, compiled: bool) -> Callable[[], State]:
    """Begins to copy the state to the host; the device may go on training meanwhile."""
    average = step.average.model.state_dict() if step.average else {}
    parts = step.model.state_dict(), step.optimiser.state(), average
    names = [[*part] for part in parts]
    copies = _copies([tensor.detach() for part in parts for tensor in part.values()])
    copied = torch.cuda.Event() if step.split.device.type == "cuda" else None
    if copied is not None:
        copied.record()

    def state() -> State:
        if copied is not None:
            copied.synchronize()
        made = iter(copies)
        weights, momentum, averaged = ({name: next(made) for name in part} for part in names)
        return State(epoch, weights, momentum, averaged, compiled)

    return state


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies on the host in row-major order, as files hold them: from a GPU in one transfer for each type, begun."""
    copies = [*tensors]
    for kind in {tensor.dtype for tensor in tensors}:
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype is kind]
        sizes = [tensors[place].numel() for place in places]
        flat = torch.empty(sum(sizes), dtype=kind, device=tensors[places[0]].device)
        for place, part in zip(places, flat.split(sizes), strict=True):
            part.view(tensors[place].shape).copy_(tensors[place])
        if flat.is_cuda:
            flat = torch.empty(sum(sizes), dtype=kind, pin_memory=True).copy_(flat, non_blocking=True)
        for place, part in zip(places, flat.split(sizes), strict=True):
            copies[place] = part.view(tensors[place].shape)
    return copies


def _load(step: Step, state: State) -> None:
    step.model.load_state_dict(state.weights)
    if step.average:
        step.average.model.load_state_dict(state.average)
    step.optimiser.load(state.momentum)


def _seed(*numbers: int) -> int:
    """A 63-bit seed from counters; nearby counters give unrelated seeds."""
    digest: Any = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
