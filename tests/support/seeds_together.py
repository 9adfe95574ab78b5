"""Finals whose trainings share a worker: Ray counts a GPU that is none, and the workers compute on the CPU.

`python -m tests.support.seeds_together FOLDER GPUS`, with GPUS 1 for workers of several trainings and 0 for workers of
one. Writes each start of trainings, as a JSON list of their numbers, to FOLDER/starts.
"""

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray
import torch
from rich.console import Console

from search.activity import Activity
from search.data import prepare
from search.execution import Interrupt, Recorder, Session, worker
from search.optimize import final_ledger, plan_finals
from search.records import Trials, open_storage
from search.spec import Share, StudySpec
from search.training import checkpoint
from tests.support.simulated import free

EPOCHS = 5
ROWS = [{"name": name, "set": {"train.lr": lr}} for name, lr in (("fast", 0.1), ("slow", 0.02))]
STUDY = {
    "name": "study",
    "data": {"name": "digits", "limit": 400},
    "net": {"depth": 14, "shortcut": "dropout", "version": "v2"},
    "train": {"epochs": EPOCHS, "batch_size": 32, "crop_padding": 1},
    "compare": ROWS,
    "finals": {"seeds": 2, "max_seeds": 2},
    "resources": {"gpus_per_trial": 1},
}


class Worker(worker.TrialWorker):
    """On the CPU, whatever Ray says; writes each epoch."""

    folder: Path

    def setup(self, config: dict[str, Any]) -> None:
        worker.device.of_worker = lambda gpus: torch.device("cpu")  # the card that is none
        checkpoint.WRITE_SECONDS = 0.0  # so that the first epochs are written
        super().setup(config)

    def _run(self) -> Generator[list[dict[str, Any]]]:
        with (self.folder / "starts").open("a") as file:
            file.write(json.dumps([own["number"] for own in self._left[0]]) + "\n")
        yield from super()._run()


def main(folder: Path, gpus: int) -> None:
    worker.TrialWorker = type("Worker", (Worker,), {"folder": folder})
    ray.init(address="local", num_cpus=1, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    spec = StudySpec.model_validate(STUDY)
    data = prepare(spec.data)
    ledger = final_ledger(open_storage(folder / "optuna.journal"), "study", free, create=True)
    plan = plan_finals(spec, ledger, Trials(), data.info.summary)
    share = Share(cpus=1.0, gpus=float(gpus), concurrent=1)
    session = Session(spec, data, ledger, Interrupt(), Activity(), share, lambda: None, dict)
    session.run(Recorder(plan, folder / "trials"), Console())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
