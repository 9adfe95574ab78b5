"""What the tests on cores promise of training, asked of a real GPU; `tests/test_gpu.py` asserts the same."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from resnet import NetSpec
from search.spec import TrainSpec, TrialSpec
from search.training import Resident, step, train
from search.training.loop import State

EPOCHS, IMAGES, VALIDATED, BATCH = 5, 2048, 600, 128

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of the network, of its training
    "plain": ({}, {}),
    "v2": ({"version": "v2"}, {"nesterov": False}),
    "no momentum": ({}, {"momentum": 0.0}),
    "adamw": ({}, {"optimizer": "adamw", "lr": 0.001, "layer_decay": 0.5}),
    "dropout": ({"shortcut": "dropout"}, {}),
    "gates": ({"shortcut": "exclusive_gate"}, {}),
    "only gate": ({"shortcut": "shortcut_only_gate"}, {}),
    "conv1x1": ({"shortcut": "conv1x1"}, {}),
    "bottleneck": ({"depth": 11, "unit": "bottleneck", "version": "v2"}, {}),
    "deep": ({"depth": 56}, {}),
    "mixed": ({}, {"cutout": 8, "mixup": 0.4, "ema": 0.9, "label_smoothing": 0.1}),
    "cut": ({}, {"cutmix": 1.0, "loss": "bce", "random_erasing": 0.5, "stochastic_depth": 0.3}),
    "resized": ({}, {"crop": "resized", "trivial_augment": True}),
    "article": ({"family": "article", "depth": 6}, {}),
    "imagenet": ({"family": "imagenet", "depth": 18, "num_classes": 10}, {}),
}

Snapshot = tuple[dict[str, float], State]  # after an epoch: losses and errors, and what the next one depends on


@cache
def split(images: int, side: int, streamed: bool = False) -> Resident:
    """Random images and labels on the GPU; streamed: the images stay on the host."""
    draw, device = torch.Generator().manual_seed(images), torch.device("cuda", 0)
    pixels = torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, 10, (images,), generator=draw).to(device)
    mean, std = (torch.full((3,), value, device=device) for value in (0.5, 0.25))
    return Resident(pixels if streamed else pixels.to(device), labels, mean, std, streamed)


@contextmanager
def altered(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` in the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def trained(case: str, start: State | None = None, streamed: bool = False) -> tuple[list[Snapshot], int]:
    """Each epoch of a trial, and how often it replayed what was captured."""
    net, fields = CASES[case]
    spec = TrialSpec(
        net=NetSpec.model_validate({"depth": 8} | net),
        train=TrainSpec.model_validate({"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.05} | fields),
    )
    side = 64 if spec.net.family == "imagenet" else 32
    replays, replay = 0, torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        nonlocal replays
        replays += 1
        replay(graph)

    with altered(torch.cuda.CUDAGraph, "replay", counted):
        epochs = [
            ({k: v for k, v in epoch.metrics.items() if k.startswith(("train/", "val/"))}, epoch.state())
            for epoch in train(spec, split(IMAGES, side, streamed), split(VALIDATED, side), start)
        ]
    return epochs, replays


def same(ones: list[Snapshot], others: list[Snapshot]) -> bool:
    """Whether all losses, errors, weights, averages and the optimiser's buffers are equal to the bit."""

    def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    return len(ones) == len(others) and all(
        metrics == others_metrics
        and equal(one.weights, other.weights)
        and equal(one.momentum, other.momentum)
        and equal(one.average, other.average)
        for (metrics, one), (others_metrics, other) in zip(ones, others, strict=True)
    )


def promises(case: str) -> dict[str, bool]:
    """Which promises a trial keeps; all steps and evaluations are to be replayed that come after the first few."""

    def replayed(found: tuple[list[Snapshot], int], expected: list[Snapshot], epochs: int = EPOCHS) -> bool:
        steps, evaluations = epochs * (IMAGES // BATCH) - step.WARM, epochs - step.WARM
        return found[1] == steps + evaluations and same(found[0], expected)

    loss = step.training_loss

    def forbidden(*arguments: Any) -> Tensor:
        found = loss(*arguments)
        if torch.cuda.is_current_stream_capturing():
            found.item()
        return found

    with altered(step, "WARM", 10**9):
        eager, none = trained(case)
    captured = trained(case)
    found = {
        "captured is eager": none == 0 and replayed(captured, eager),
        "twice the same": replayed(trained(case), captured[0]),
        "continued is uninterrupted": replayed(trained(case, captured[0][0][1]), captured[0][1:], EPOCHS - 1),
        "streamed is resident": replayed(trained(case, streamed=True), captured[0]),
    }
    with altered(step, "training_loss", forbidden):
        failed, evaluations = trained(case)
    return found | {
        "a capture that fails stays eager": evaluations == EPOCHS - step.WARM and same(failed, eager),
        "the trial after it is captured": replayed(trained(case), captured[0]),
    }


def left_by_trials() -> list[int]:
    """Bytes that stay taken after each of some trials of one process, every other one deeper."""
    left: list[int] = []
    for number in range(8):
        trained("deep" if number % 2 else "plain")
        gc.collect()
        torch.cuda.empty_cache()
        left.append(torch.cuda.memory_allocated())
    return left


def constant(left: list[int]) -> bool:
    """Whether no trial after the second leaves more than it did; 2 MiB is one block of torch's allocator."""
    return max(left[2:]) - left[1] < 2 * 2**20
