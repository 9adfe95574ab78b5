"""A study on a GPU that is none: Ray counts it, the workers compute on the CPU, and one trial does not fit a share.

`python -m tests.support.fake_card FOLDER TRIALS LARGE` with the number of the trial that runs out of memory. Writes
each attempt, as JSON, to FOLDER/attempts.
"""

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray
import torch
from rich.console import Console

from search.activity import Activity
from search.data import prepare
from search.execution import Interrupt, Session, host, worker
from search.spec import Scheduler, SearchSpec, StudySpec
from tests.support.simulated import Setting, opened


class Worker(worker.TrialWorker):
    """Of which trial number `large` does not fit."""

    folder: Path
    large: int

    def setup(self, config: dict[str, Any]) -> None:
        worker.device.of_worker = lambda gpus: torch.device("cpu")  # the card that is none
        super().setup(config)

    def _run(self) -> Generator[list[dict[str, Any]]]:
        number, loaded = self.config["number"], self._process._data
        held = ray.get_runtime_context().get_assigned_resources()["GPU"]  # what Ray says, not we
        attempt = {"number": number, "gpus": held, "pid": os.getpid(), "loads": loaded is None and number != self.large}
        with (self.folder / "attempts").open("a") as file:
            file.write(json.dumps(attempt) + "\n")
        if number == self.large:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        yield from super()._run()


def main(folder: Path, trials: int, large: int) -> None:
    worker.TrialWorker = type("Worker", (Worker,), {"folder": folder, "large": large})
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    asked = {"name": "study", "data": {"name": "digits", "limit": 100}, "resources": {"gpus_per_trial": 0.5}}
    spec = StudySpec.model_validate(asked)
    setting = Setting(SearchSpec(trials=trials, scheduler=Scheduler.NONE), 2, {"train.lr": {"low": 0.01, "high": 0.1}})
    recorder = opened(setting, folder)
    recorder.trials = folder / "trials"
    share = host.divide(spec.resources, spec.search, 2.0, 1.0, "the card")
    session = Session(spec, prepare(spec.data), recorder.ledger, Interrupt(), Activity(), share, lambda: None, dict)
    session.run(recorder, Console())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
