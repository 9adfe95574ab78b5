"""Finals made by hand: three finalists of the sample's search, and a study that compares rows of a paper's table."""

from dataclasses import replace
from itertools import count
from math import exp
from typing import Any

from search.records import Finalist, Finals, SeedRun, StudySummary, TrialState
from tests.support import sample_study as sample

TESTED_ON = 360
WRONG = {10: (5, 6, 4, 6, 5), 5: (6, 7, 7, 6, 5), 3: (14, 16, 15)}  # images by seed; 5 and 10 cannot be told apart


def curve(epochs: int, last: float, index: int) -> dict[int, float]:
    """Training errors that fall to `last`; `index` shifts them a little."""
    rate = 3.2 + 0.8 / (last + 0.3)
    shifts = {epoch: 1 + 0.06 * ((index * 7 + epoch * 3) % 5 - 2) for epoch in range(1, epochs + 1)}
    return {epoch: round(last + 62 * exp(-rate * epoch / epochs) * shift, 3) for epoch, shift in shifts.items()}


def run(number: int, seed: int, epochs: int, error: float, trained: float, seconds: float = 10.0) -> SeedRun:
    lines = curve(epochs, trained, number)
    run_id = f"{900 + number:032x}"
    return SeedRun(number, seed, TrialState.COMPLETE, epochs, lines, error, error / 25, seconds, None, run_id)


def finals(**changes: Any) -> Finals:
    """Of the sample's search: trial 10 is the champion, trial 5 cannot be told from it, trial 3 can."""
    number, finalists = count(), list[Finalist]()
    for trial, wrong in ((sample.trial(n), images) for n, images in WRONG.items()):
        runs = (
            run(next(number), seed, sample.EPOCHS, 100 * images / TESTED_ON, 0.1 + 0.05 * images + 0.04 * seed)
            for seed, images in enumerate(wrong)
        )
        finalists.append(
            Finalist(
                trial.number,
                trial.params,
                tuple(runs),
                params_count=trial.params_count,
                macs=trial.macs,
                mlflow_run_id=trial.mlflow_run_id,
            )
        )
    fields: dict[str, Any] = {
        "finalists": tuple(finalists),
        "epochs": sample.EPOCHS,
        "seeds": 3,
        "most_seeds": 5,
        "level": 0.95,
        "trained_on": 1150 + 287,
        "tested_on": TESTED_ON,
        "complete": True,
        "champion_number": 10,
        "champion_run": 0,
    }
    return Finals(**(fields | changes))


def with_lost(found: Finals) -> Finals:
    """The same, but that the last training of trial 3 diverged."""
    *rest, last = found.finalists
    lost = replace(
        last.runs[2],
        state=TrialState.DIVERGED,
        epochs=4,
        train_curve=dict(list(last.runs[2].train_curve.items())[:4]),
        test_error=None,
        test_loss=None,
        reason="the training loss was NaN in epoch 5",
    )
    return replace(found, finalists=(*rest, replace(last, runs=(*last.runs[:2], lost))))


# What the rows of Table 1 of arXiv:1603.05027 say of the shortcut, and errors (percent, by seed) such as a network of
# 20 layers and 30 epochs may have.
HALVES = {"shortcut_scale": 0.5, "residual_scale": 0.5}
SCALED, EXCLUSIVE, ONLY = "constant_scaling", "exclusive_gate", "shortcut_only_gate"
ROWS: tuple[tuple[str, str, str, tuple[float, ...], dict[str, float]], ...] = (
    # name, row of the table, shortcut, errors, the shortcut's constants
    ("original: identity", "identity", "identity", (8.91, 8.72, 8.85, 9.02, 8.64), {}),
    ("constant scaling 0, 1", "scaling_0_1", "none", (10.06, 9.83, 10.21, 10.15), {}),
    ("constant scaling 0.5, 1", "scaling_0.5_1", SCALED, (9.71, 9.55, 9.93, 9.84), {"shortcut_scale": 0.5}),
    ("constant scaling 0.5, 0.5", "scaling_0.5_0.5", SCALED, (9.44, 9.61, 9.29, 9.54, 9.32), HALVES),
    ("exclusive gate, bias 0", "exclusive_gate_0_to_-5", EXCLUSIVE, (11.42, 11.05, 11.87, 11.69), {"gate_bias": 0.0}),
    ("exclusive gate, bias -6", "exclusive_gate_-6", EXCLUSIVE, (9.15, 9.32, 9.08, 9.26, 9.08), {"gate_bias": -6.0}),
    ("exclusive gate, bias -7", "exclusive_gate_-7", EXCLUSIVE, (9.48, 9.21, 9.39, 9.44, 9.25), {"gate_bias": -7.0}),
    ("shortcut-only gate, bias 0", "shortcut_only_gate_0", ONLY, (10.33, 10.61, 10.12, 10.5), {"gate_bias": 0.0}),
    ("shortcut-only gate, bias -6", "shortcut_only_gate_-6", ONLY, (8.97, 8.83, 8.76, 9.05, 8.88), {"gate_bias": -6.0}),
    ("1x1 convolution", "conv1x1", "conv1x1", (9.62, 9.88, 9.75, 9.83), {}),
    ("dropout 0.5", "dropout", "dropout", (13.41, 14.02, 13.77), {"dropout": 0.5}),
)


def compared(**changes: Any) -> Finals:
    """Eleven rows on 10,000 test images; identity is the best, the shortcut-only gate cannot be told from it."""
    common = {"net.depth": 20, "net.unit": "basic", "net.version": "v1", "train.epochs": 30, "train.lr": 0.1}
    number, finalists = count(), list[Finalist]()
    for row, (label, key, shortcut, errors, constants) in enumerate(ROWS):
        net = {"net.shortcut": shortcut} | {f"net.{field}": value for field, value in constants.items()}
        runs = (
            run(next(number), seed, 30, error, max(0.4, error - 6.5), seconds=412.0)
            for seed, error in enumerate(errors)
        )
        source, run_id = (f"1603.05027/table1/{key}",), f"{500 + row:032x}"
        finalists.append(Finalist(row, common | net, tuple(runs), label, source, 269_722, 40_551_040, run_id))
    fields: dict[str, Any] = {
        "finalists": tuple(finalists),
        "epochs": 30,
        "seeds": 3,
        "most_seeds": 5,
        "level": 0.95,
        "trained_on": 50_000,
        "tested_on": 10_000,
        "complete": True,
        "compared": True,
        "scale": {"net.depth": (110, 20), "train.epochs": (164, 30)},
        "scale_name": "small",
        "champion_number": 0,
        "champion_run": 2,
    }
    return Finals(**(fields | changes))


def summary(**changes: Any) -> StudySummary:
    """Of the sample's search with its finals."""
    more = {"finals": finals(), "finals_asked": True, "holds": {"cpus": 1.0, "gpus": 0.0}}
    return sample.summary(**(more | changes))


def comparing(**changes: Any) -> StudySummary:
    """Of the study that compares."""
    fields: dict[str, Any] = {
        "name": "paper-shortcuts",
        "description": "Table 1 of arXiv:1603.05027: which shortcut?",
        "data": {
            "name": "cifar10",
            "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
            "train": 45_000,
            "validation": 5_000,
            "test": 10_000,
            "shape": (32, 32, 3),
            "digest": "4b1c93e0d7aa",
        },
        "space": {},
        "epochs": 30,
        "first_rung": 30,
        "trials": 0,
        "scheduler": "none",
        "elapsed_seconds": 16_300.0,
        "hardware": "16 cores of AMD EPYC 9654, 1 x NVIDIA H100",
        "finals": compared(),
        "finals_asked": True,
        "holds": {"cpus": 2.0, "gpus": 0.125},
    }
    return sample.summary(**(fields | changes))
