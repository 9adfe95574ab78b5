"""How long a network takes to answer."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import quantiles
from typing import Self

import torch
from torch import Tensor, nn

RUNS, SECONDS, MOST = 30, 0.3, 1000  # that are timed: so many, and more where they take less time than this
WARM_RUNS, WARM_SECONDS = 5, 0.1  # before them


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the images to their answer."""

    median: float
    low: float  # quartiles
    high: float
    runs: int

    @classmethod
    def measured(cls, answer: Callable[[], object]) -> Self:
        """That of `answer`, which returns once the answer is there: of 30 runs or more, after it is warm."""
        for _ in _runs(WARM_RUNS, WARM_SECONDS):
            answer()
        found: list[float] = []
        for _ in _runs(RUNS, SECONDS):
            began = time.perf_counter()
            answer()
            found.append(1000 * (time.perf_counter() - began))
        low, median, high = quantiles(found, n=4, method="inclusive")
        return cls(median, low, high, len(found))


def _runs(count: int, seconds: float) -> Iterator[None]:
    """Goes on until both are reached, or there were `MOST`."""
    began, done = time.perf_counter(), 0
    while done < count or (done < MOST and time.perf_counter() - began < seconds):
        yield
        done += 1


def answering(network: nn.Module, images: Tensor) -> Callable[[], object]:
    """What computes the network's logits of `images` in evaluation, on their device, and waits for them."""
    network = network.to(images.device).eval()

    @torch.inference_mode()
    def answer() -> Tensor:
        return network(images).cpu()

    return answer
