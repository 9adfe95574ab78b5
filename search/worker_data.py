"""The splits that a worker trains on and measures by; they stay on its device from trial to trial."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from search import device
from search.batches import Resident
from search.data import DataSpec, Prepared, Split, on_this_machine


@dataclass(frozen=True)
class WorkerData:
    """Args:
    prepared: on this machine.
    where: the device.
    training: of a trial, the training split; of a finalist, train + validation.
    validation: None for a finalist.
    """

    prepared: Prepared
    where: torch.device
    training: Resident
    validation: Resident | None

    @classmethod
    def load(cls, config: dict[str, Any]) -> "WorkerData":
        """For the trials of this configuration (see `search.trial.TrialWorker`).

        Raises:
            InputError: the data on this machine are not those that the study began with.
        """
        folder, digest = config["prepared"]
        prepared = on_this_machine(Path(folder), DataSpec.model_validate(config["data"]), digest)
        where = device.of_worker(config["gpus"])
        if config["final"]:
            return cls(prepared, where, _resident(prepared, prepared.whole(), where), None)
        splits = (_resident(prepared, split, where) for split in (prepared.train(), prepared.validation()))
        return cls(prepared, where, *splits)

    def test(self) -> Resident:
        """The test split, opened now: for a network that has been trained to its end, and nothing else."""
        return _resident(self.prepared, self.prepared.test(), self.where)


def _resident(prepared: Prepared, split: Split, where: torch.device) -> Resident:
    # All splits are scaled by the training split's mean and deviation: a finalist sees its pixels as its trial did.
    return Resident.load(split, prepared.info.mean, prepared.info.std, where)
