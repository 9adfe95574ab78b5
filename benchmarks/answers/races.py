"""Races of simulated finalists, and test images drawn anew: tables of `answers`."""

from collections.abc import Callable
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.answers.known_truth import LAWS, Sample, held, share
from search.optimize.race import Verdict, race
from search.statistics import Interval, mean_interval, standard_error

FINALISTS = (2, 3, 5, 11)
Draw = Callable[[tuple[int, ...]], NDArray[Any]]


def raced(errors: Sample, seeds: int, resolution: float | None = None) -> list[Verdict]:
    """The verdicts of races at 95 %; errors by repetition, finalist and seed."""
    return [race(dict(enumerate(t)), seeds, errors.shape[2], resolution=resolution) for t in errors.tolist()]


def false_claims(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """How often a race of equal finalists claims anything, and how often unshared tests at 5 % would."""
    laws: dict[str, tuple[Draw, float | None]] = {"normal": (lambda shape: rng.normal(size=shape), None)}
    for ratio in (2, 4, 10):
        laws[f"normal, deviations 1 to {ratio}"] = (lambda shape, r=ratio: _unequal(rng, shape, r), None)
    for name in list(LAWS)[1:]:
        laws[name] = (lambda shape, law=LAWS[name]: law.draw(rng, shape), LAWS[name].resolution)
    rows: list[list[str]] = []
    for name, (draw, resolution) in laws.items():
        cells: list[str] = []
        for finalists in FINALISTS:
            drawn = draw((repetitions if finalists < 11 else repetitions // 5, finalists, 5))
            verdicts = raced(drawn, 3, resolution)
            cells.append(share([bool(v.claims) for v in verdicts], most=0.05))
        rows.append([f"{name}, 3 to 5 seeds", *cells])
    for seeds, most in ((3, 10), (5, 5)):
        drawn = (rng.normal(size=(repetitions if k < 5 else repetitions // 5, k, most)) for k in FINALISTS)
        shares = [share([bool(v.claims) for v in raced(d, seeds)], most=0.05) for d in drawn]
        rows.append([f"normal, {seeds} to {most} seeds", *shares])
    plain = (unshared(rng.normal(size=(repetitions, k, 5)), 3) for k in FINALISTS)
    return [*rows, ["normal, 3 to 5 seeds; every test at 5 %", *(share(found, most=0.05) for found in plain)]]


def _unequal(rng: np.random.Generator, shape: tuple[int, ...], ratio: float) -> Sample:
    return rng.normal(size=shape) * np.geomspace(1, ratio, shape[1])[:, None]


def unshared(errors: Sample, seeds: int) -> NDArray[np.bool_]:
    """Whether any pair has a p of Welch's test of 5 % or less at any look."""
    found = np.zeros(len(errors), bool)
    for size in range(seeds, errors.shape[2] + 1):
        mean, variance = errors[:, :, :size].mean(axis=2), errors[:, :, :size].var(axis=2, ddof=1) / size
        for a, b in combinations(range(errors.shape[1]), 2):
            total = variance[:, a] + variance[:, b]
            freedom = (size - 1) * total**2 / (variance[:, a] ** 2 + variance[:, b] ** 2)
            found |= 2 * special.stdtr(freedom, -abs(mean[:, a] - mean[:, b]) / np.sqrt(total)) <= 0.05
    return found


def true_claims(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """Races of a best one and equals behind it: what is found, what is claimed wrongly, what it costs."""
    rows: list[list[str]] = []
    for finalists, seeds, most in ((2, 3, 5), (3, 3, 5), (3, 3, 10), (3, 10, 10)):
        for ahead in (0.1, 1.5, 3.0, 5.0):
            means = np.array([0.0] + [ahead] * (finalists - 1))
            drawn = rng.normal(size=(repetitions, finalists, most)) + means[:, None]
            verdicts = raced(drawn, seeds)
            wrong = [any(means[c.better] >= means[c.worse] for c in v.claims) for v in verdicts]
            passed = [v.best != _lowest(v, errors) for v, errors in zip(verdicts, drawn, strict=True)]
            rows.append(
                [
                    f"{finalists}, {seeds} to {most}",
                    f"{ahead:g}",
                    share([v.best == 0 for v in verdicts]),
                    share([v.separated and v.best == 0 for v in verdicts]),
                    share(wrong, most=0.05),
                    f"{np.mean([sum(v.wanted.values()) for v in verdicts]):.1f} of {finalists * most}",
                    share(passed),
                ]
            )
    return rows


def _lowest(verdict: Verdict, errors: Sample) -> int:
    """Whose mean is the lowest, of all and of whatever number of seeds."""
    return min(verdict.wanted, key=lambda number: errors[number, : verdict.wanted[number]].mean())


def images(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """Trainings tested on images drawn anew, and how often the intervals hold the error on all images of that kind."""
    rows: list[list[str]] = []
    for size, truth, agree in ((10_000, 0.065, 0.3), (10_000, 0.065, 3.0), (360, 0.025, 0.3), (360, 0.025, 3.0)):
        over_seeds: list[Interval | None] = []
        over_images: list[Interval | None] = []
        for _ in range(repetitions):
            hard = rng.beta(truth * agree, (1 - truth) * agree, size)
            errors = (100 * (rng.random((3, size)) < hard).mean(axis=1)).tolist()
            mean, half = fmean(errors), 1.96 * standard_error(fmean(errors), size)
            over_seeds.append(mean_interval(errors, resolution=100 / size))
            over_images.append(Interval(mean - half, mean + half, 0.95))
        shares = [share(held(found, 100 * truth), least=0.95) for found in (over_seeds, over_images)]
        rows.append([f"{size:,}", f"{100 * truth:g}", "mostly" if agree < 1 else "seldom", *shares])
    return rows
