"""A study on a GPU that is none: Ray counts it, the workers compute on the CPU, and one trial does not fit a share.

`python -m tests.support.fake_card FOLDER TRIALS LARGE` with the number of the trial that runs out of memory. Writes
each attempt, as JSON, to FOLDER/attempts.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import ray
import torch

import search.execution.worker
from search.data import prepare
from search.execution import host
from search.execution.recorder import Recorder
from search.execution.tuner import Loop, train
from search.execution.worker import TrialWorker, WorkerData
from search.optimize import Proposer, Strategy
from search.optimize.schedulers import Halving
from search.records import Asked, Ledger, open_storage
from search.spec import DataSpec, LimitSpec, ResourceSpec, Sampler, SearchSpec, appraise
from search.spec.space import make

FIXED = {
    "net.in_channels": 1,
    "net.num_classes": 10,
    "net.depth": 8,
    "train.epochs": 2,
    "train.crop_padding": 0,
    "train.flip": False,
}


def main(folder: Path, trials: int, large: int) -> None:
    class Worker(TrialWorker):
        def setup(self, config: dict[str, Any]) -> None:
            search.execution.worker.device.of_worker = lambda gpus: torch.device("cpu")  # the card that is none
            super().setup(config)

        def _splits(self) -> WorkerData:
            number, loaded = self.config["number"], self._data
            held = ray.get_runtime_context().get_assigned_resources()["GPU"]  # what Ray says, not we
            attempt = {"number": number, "gpus": held, "pid": os.getpid()}
            if number == large:
                note(attempt)
                raise torch.OutOfMemoryError("CUDA out of memory.")
            splits = super()._splits()
            note(attempt | {"loads": loaded is None})
            return splits

    def note(attempt: dict[str, Any]) -> None:
        with (folder / "attempts").open("a") as file:
            file.write(json.dumps(attempt) + "\n")

    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    data = DataSpec(name="digits", limit=100)
    prepared = prepare(data)
    space = make({"train.lr": {"low": 0.01, "high": 0.1}}, FIXED)
    storage = open_storage(folder / "optuna.journal")
    ledger = Ledger(storage, "card", space, lambda trial: appraise(trial, (8, 8), LimitSpec()))
    asked = SearchSpec(trials=trials)
    strategy = Strategy(ledger, Proposer(space, Sampler.RANDOM, 0), Halving(2, 2, epochs=2), asked, epochs=2)
    recorder = Recorder(strategy, folder / "trials")

    def config(asked: Asked) -> dict[str, Any]:
        return {
            "number": asked.number,
            "spec": asked.spec.model_dump(mode="json"),
            "folder": str(recorder.folder(asked.number)),
            "epochs_known": ledger.record(asked.number).epochs,
            "data": data.model_dump(mode="json"),
            "prepared": [str(prepared.folder), prepared.info.digest],
            "software": None,
            "cpus": 1.0,
            "threads": 1,
            "compile": False,
            "final": False,
            "gpus": 0.5,
        }

    search.execution.worker.TrialWorker = Worker
    train(recorder, config, host.divide(ResourceSpec(gpus_per_trial=0.5), asked, 2.0, 1.0, "the card"), Loop())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
