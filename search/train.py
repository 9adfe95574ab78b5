"""One trial as a generator of epochs. Knows neither Ray nor MLflow."""
# torch's own annotations are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as ops

from resnet import build
from search.batches import Resident, evaluation_batches, training_batches
from search.spec import Schedule, TrainSpec, TrialSpec

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class State:
    """Everything that the next epoch depends on. Order and augmentation follow from (seed, epoch) alone."""

    epoch: int  # epochs trained
    weights: dict[str, Tensor]
    momentum: dict[str, Tensor]  # parameter name -> momentum buffer


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. Errors in percent, time in seconds, losses in nats."""

    number: int  # from 1
    metrics: dict[str, float]
    diverged: bool
    state: Callable[[], State]


def train(spec: TrialSpec, training: Resident, validation: Resident, resume: State | None = None) -> Iterator[Epoch]:
    """Trains `spec` on the device where `training` lives; yields after each epoch, to the last or until it diverges.

    Args:
        spec: network and training.
        training, validation: splits on one device.
        resume: continue after this state; the result is the same, bit for bit, as without the interruption on the same
            hardware and number of threads.
    """
    device = training.images.device
    torch.manual_seed(_mix(spec.train.seed, 0))
    model = build(spec.net).to(device=device)
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = _sgd(model, spec.train)
    if resume is not None:
        _load(model, optimiser, resume)
    first = resume.epoch + 1 if resume else 1
    for number in range(first, spec.train.epochs + 1):
        generator = torch.Generator().manual_seed(_mix(spec.train.seed, number))
        torch.manual_seed(_mix(spec.train.seed, number))  # of dropout
        began = time.perf_counter()
        train_loss, train_error, images = _train_epoch(model, optimiser, spec.train, training, number, generator)
        trained = time.perf_counter()
        val_loss, val_error = evaluate(model, validation)
        ended = time.perf_counter()
        metrics = {
            "train/loss": train_loss,
            "train/error": train_error,
            "val/loss": val_loss,
            "val/error": val_error,
            "cost/images_per_s": images / (trained - began),
            "cost/seconds": ended - began,
        }
        diverged = not (math.isfinite(train_loss) and math.isfinite(val_loss))
        yield Epoch(number, metrics, diverged, lambda n=number: _state(model, optimiser, n))
        if diverged:
            return


def learning_rate(spec: TrainSpec, progress: float) -> float:
    """Learning rate after the fraction `progress` (0..1) of the whole training."""
    warm = min(1.0, progress / spec.warmup) if spec.warmup else 1.0
    match spec.schedule:
        case Schedule.CONSTANT:
            factor = 1.0
        case Schedule.STEPS:
            factor = 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
        case Schedule.COSINE:
            after = max(0.0, progress - spec.warmup) / (1 - spec.warmup)
            factor = 0.5 * (1 + math.cos(math.pi * after))
    return spec.lr * warm * factor


@torch.no_grad()
def evaluate(model: nn.Module, split: Resident) -> tuple[float, float]:
    """Mean cross-entropy (nats) and error (percent) over a split."""
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=split.images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=split.images.device)
    for images, labels in evaluation_batches(split, EVALUATION_BATCH):
        with _autocast(images.device):
            logits = model(images).float()
        loss += ops.cross_entropy(logits, labels, reduction="sum")
        wrong += (logits.argmax(1) != labels).sum()
    return loss.item() / len(split), 100.0 * wrong.item() / len(split)


def _train_epoch(
    model: nn.Module,
    optimiser: torch.optim.SGD,
    spec: TrainSpec,
    split: Resident,
    number: int,
    generator: torch.Generator,
) -> tuple[float, float, int]:
    """Mean loss, error in percent and number of images; both are summed on the device and read once."""
    model.train()
    loss_sum = torch.zeros((), dtype=torch.float64, device=split.images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=split.images.device)
    steps = max(1, len(split) // spec.batch_size)
    seen = 0
    batches = training_batches(split, spec.batch_size, spec.crop_padding, spec.flip, generator)
    for step, (images, labels) in enumerate(batches):
        optimiser.param_groups[0]["lr"] = learning_rate(spec, (number - 1 + step / steps) / spec.epochs)
        with _autocast(images.device):
            logits = model(images)
        loss = ops.cross_entropy(logits.float(), labels, label_smoothing=spec.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        loss_sum += loss.detach() * len(labels)
        wrong += (logits.detach().argmax(1) != labels).sum()
        seen += len(labels)
    return loss_sum.item() / seen, 100.0 * wrong.item() / seen, seen


def _autocast(device: torch.device) -> torch.autocast:
    # bf16 on the CPU is emulated where the processor lacks it, so only GPUs use it.
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def _sgd(model: nn.Module, spec: TrainSpec) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=spec.lr,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov and spec.momentum > 0,
        fused=True,
    )


def _state(model: nn.Module, optimiser: torch.optim.SGD, epoch: int) -> State:
    buffers = {
        name: _plain(optimiser.state[parameter]["momentum_buffer"])
        for name, parameter in model.named_parameters()
        if optimiser.state.get(parameter, {}).get("momentum_buffer") is not None
    }
    return State(epoch, {k: _plain(v) for k, v in model.state_dict().items()}, buffers)


def _plain(tensor: Tensor) -> Tensor:
    """A copy on the CPU in row-major order, as files hold it."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _load(model: nn.Module, optimiser: torch.optim.SGD, state: State) -> None:
    model.load_state_dict(state.weights)
    for name, parameter in model.named_parameters():
        if name in state.momentum:
            # Same memory format as the parameter, or the fused step would take another path.
            optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(state.momentum[name])


def _mix(*numbers: int) -> int:
    """A 63-bit seed from counters; nearby counters give unrelated seeds."""
    digest: Any = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
