"""The learning rate of each step."""

import math

from search.spec import Schedule, TrainSpec

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
    top = rising * steps - 1  # counted as torch counts, where the first step is step 0 and the last has the lowest rate
    if step < top:
        return _cosine(_START, 1.0, step / top)
    return _cosine(1.0, _END, (step - top) / (steps - 1 - top))


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * part))
