"""Learning rates by hand, and against torch's own schedulers."""

import math
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from search.spec import TrainSpec
from search.training.loop import learning_rate

HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("fields", "by_progress"),
    [
        ({"schedule": "constant"}, {0.0: 0.4, 0.5: 0.4, 1.0: 0.4}),
        ({"schedule": "constant", "warmup": 0.2}, {0.0: 0.0, 0.05: 0.1, 0.1: 0.2, 0.2: 0.4, 0.9: 0.4}),
        # 32k and 48k of 64k iterations (arXiv:1512.03385, 4.2)
        ({"schedule": "steps"}, {0.0: 0.4, 0.49: 0.4, 0.5: 0.04, 0.74: 0.04, 0.75: 0.004, 1.0: 0.004}),
        ({"schedule": "cosine"}, {0.0: 0.4, 0.25: 0.2 * (1 + HALF), 0.5: 0.2, 0.75: 0.2 * (1 - HALF), 1.0: 0.0}),
        ({"schedule": "cosine", "warmup": 0.2}, {0.0: 0.0, 0.1: 0.2, 0.2: 0.4, 0.6: 0.2, 1.0: 0.0}),
    ],
)
def test_learning_rate_by_hand(fields: dict[str, Any], by_progress: dict[float, float]) -> None:
    given = TrainSpec(lr=0.4, **fields)
    for progress, expected in by_progress.items():
        assert learning_rate(given, round(progress * 100), 100) == pytest.approx(expected, abs=1e-12)


def optimiser(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(scheduler: LRScheduler, steps: int) -> list[float]:
    found = []
    for step in range(steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        if step + 1 < steps:
            scheduler.step()
    return found


def ours(given: TrainSpec, steps: int) -> list[float]:
    return [learning_rate(given, step, steps) for step in range(steps)]


def test_cosine_is_torchs() -> None:
    assert ours(TrainSpec(lr=0.3), 40) == pytest.approx(rates(CosineAnnealingLR(optimiser(0.3), T_max=40), 40))


@pytest.mark.parametrize("steps", [64, 7, 3, 1])
@pytest.mark.parametrize("rising", [None, 0.25, 0.1, 0.0])
def test_one_cycle_is_torchs(steps: int, rising: float | None) -> None:
    """Where no warm-up is asked for it rises for torch's default part."""
    asked, theirs = ({}, {}) if rising is None else ({"warmup": rising}, {"pct_start": rising})
    cycle = OneCycleLR(optimiser(0.3), 0.3, total_steps=steps, cycle_momentum=False, **theirs)
    assert ours(TrainSpec(lr=0.3, schedule="one_cycle", **asked), steps) == pytest.approx(rates(cycle, steps), rel=1e-9)


def test_warm_up_of_the_papers() -> None:
    """0.01 for 400 iterations, then 0.1, divided by 10 at 32k and 48k of 64k (arXiv:1603.05027, appendix)."""
    given = TrainSpec(lr=0.1, schedule="steps", warmup_steps=400)
    expected = {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}
    for step, rate in expected.items():
        assert learning_rate(given, step, 64_000) == pytest.approx(rate)
