"""A trial as the storage holds it, made into a record."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna

from search.records import TrialRecord, TrialState

MEMORY = "memory"  # the constraint that a trial violates which ran out of memory


def read(frozen: optuna.trial.FrozenTrial) -> TrialRecord:
    """A trial as the storage holds it."""
    attributes: dict[str, Any] = frozen.user_attrs
    price, outcome = attributes["cost"], attributes.get("outcome")
    record = TrialRecord(
        number=frozen.number,
        state=TrialState(outcome["state"]) if outcome else TrialState.RUNNING,
        params=attributes["params"],
        epochs=0,
        reason=outcome["reason"] if outcome else None,
        params_count=price["params"],
        macs=price["macs"],
        violation=max(frozen.constraints.values(), default=None),
        exceeded=tuple(limit for limit, excess in frozen.constraints.items() if excess > 0 and limit != MEMORY),
        out_of_memory=MEMORY in frozen.constraints,
        origin=attributes["origin"]["number"] if "origin" in attributes else None,
        finalist=attributes.get("finalist"),
        test=attributes.get("test"),
    )
    for epoch, error in sorted(frozen.intermediate_values.items()):
        record = with_epoch(record, epoch, error, attributes[f"epoch:{epoch}"])
    return record


def with_epoch(record: TrialRecord, epoch: int, error: float, speed: Mapping[str, float]) -> TrialRecord:
    """The record with one epoch more."""
    before, seconds = record.seconds or 0.0, speed["seconds"]
    images = (record.images_per_s or 0.0) * before + speed["images_per_s"] * seconds
    return replace(
        record,
        curve={**record.curve, epoch: error},
        epochs=epoch,
        seconds=before + seconds,
        images_per_s=images / (before + seconds) if before + seconds else None,
    )
