"""A study made by hand: 24 trials in every state, deterministic, and plausible enough to look at."""

from math import exp
from typing import Any

from search.records import StudySummary, TrialRecord, Trials, TrialState

EPOCHS, FIRST_RUNG, IMAGES = 12, 3, 287
DEPTHS = (8, 14, 20)
VERSIONS = ("v1", "relu_only_preact", "v2")
SHORTCUTS = ("identity", "conv1x1", "exclusive_gate", "none")


def summary(**changes: Any) -> StudySummary:
    fields: dict[str, Any] = {
        "name": "digits",
        "description": "Which residual network reads handwritten digits of 8 x 8 pixels best?",
        "data": {
            "name": "digits",
            "classes": [str(digit) for digit in range(10)],
            "train": 1150,
            "validation": IMAGES,
            "test": 360,
            "shape": (8, 8, 1),
            "digest": "9f2c1e7ab04d",
        },
        "space": {
            "net.depth": "8 | 14 | 20",
            "net.version": "v1 | relu_only_preact | v2",
            "net.shortcut": "identity | conv1x1 | exclusive_gate | none",
            "net.gate_bias": "-6 ... 0, for exclusive_gate",
            "train.lr": "0.02 ... 0.5 (log)",
            "train.weight_decay": "1e-05 ... 0.001 (log)",
        },
        "epochs": EPOCHS,
        "first_rung": FIRST_RUNG,
        "trials": 24,
        "sampler": "auto",
        "scheduler": "asha",
        "seed": 0,
        "elapsed_seconds": 151.3,
        "hardware": "2 CPU cores, 23 GiB of memory, no GPU",
        "versions": {"python": "3.11.2", "torch": "2.14.1", "ray": "2.60.0", "optuna": "5.0.0", "mlflow": "3.17.2"},
    }
    return StudySummary(**(fields | changes))


def params(index: int) -> dict[str, Any]:
    """A spread over the space; the gate's bias is there for gates only."""
    shortcut = SHORTCUTS[(index * 7 + index // 4) % 4]
    gate = {"net.gate_bias": -0.5 * (1 + index % 12)} if shortcut == "exclusive_gate" else {}
    return {
        "net.depth": DEPTHS[(index + index // 9) % 3],
        "net.unit": "basic",
        "net.version": VERSIONS[(index * 5 + index // 3) % 3],
        "net.shortcut": shortcut,
        **gate,
        "train.lr": 0.02 * 25 ** ((index * 11 % 24) / 23),
        "train.weight_decay": 1e-5 * 100 ** ((index * 5 % 24) / 23),
    }


def trial(index: int) -> TrialRecord:
    setting = params(index)
    quality = {"identity": 0.0, "conv1x1": 0.8, "exclusive_gate": 2.2, "none": 3.0}[setting["net.shortcut"]]
    quality += {"v2": 0.0, "relu_only_preact": 0.5, "v1": 0.9}[setting["net.version"]]
    quality += {8: 1.2, 14: 0.4, 20: 0.0}[setting["net.depth"]] + abs(setting["train.lr"] - 0.12) * 6
    state, reason = TrialState.COMPLETE, None
    epochs = EPOCHS
    if index in (9, 17):
        state, epochs, reason = TrialState.DIVERGED, 2, "the training loss was NaN in epoch 3"
    elif index == 13:
        state, epochs, reason = TrialState.FAILED, 0, "RuntimeError: <b>unexpected</b> | shape 4x4 & more"
    elif index == 20:
        state, epochs, reason = TrialState.INFEASIBLE, 0, "out of memory at batch size 128"
    elif quality > 3.4:
        epochs = 3 if quality > 4.2 else 6
        state, reason = TrialState.PRUNED, f"among the worse two thirds at epoch {epochs}"
    curve = {}
    for epoch in range(1, epochs + 1):
        smooth = 1.0 + quality + 70 * exp(-epoch / (1.1 + quality * 0.25)) + (index * epoch % 5) * 0.18
        curve[epoch] = 100 * round(smooth * IMAGES / 100) / IMAGES
    depth = setting["net.depth"]
    started = state not in (TrialState.FAILED, TrialState.INFEASIBLE)
    return TrialRecord(
        number=index,
        state=state,
        params=setting,
        epochs=epochs,
        curve=curve,
        reason=reason,
        params_count=(depth * 13_600 + (8_000 if setting["net.shortcut"] == "conv1x1" else 0)) if started else None,
        macs=(depth * 128_000 + (60_000 if setting["net.shortcut"] == "conv1x1" else 0)) if started else None,
        seconds=epochs * depth * 0.05 if started else None,
        mlflow_run_id=f"{index:032x}" if started else None,
    )


def trials() -> Trials:
    return Trials(trial(index) for index in range(24))
