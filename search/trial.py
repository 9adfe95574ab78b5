"""The Ray shell around one trial: long-lived worker, checkpoints, continuation, failures told as data."""

import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from search import checkpoint
from search.batches import Resident
from search.checkpoint import Checkpoint
from search.data import DataSpec, open_prepared
from search.records import TrialState
from search.spec import TrialSpec
from search.train import train


class TrialWorker(tune.Trainable):
    """Trains one specification after another in one process; the data set stays loaded in between.

    The configuration of a trial has `number`, `spec` (a TrialSpec as data), `folder` (of its checkpoints),
    `epochs_known` (epochs on record in the study), `data`, `prepared` (folder of the prepared data set) and `threads`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._reports: Iterator[dict[str, Any]] | None = None
        self._splits: tuple[tuple[str, str], Resident, Resident] | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports = None
        return True

    def step(self) -> dict[str, Any]:
        number = self.config["number"]
        try:
            if self._reports is None:
                self._reports = self._run()
            return {"number": number, **next(self._reports)}
        except (torch.OutOfMemoryError, MemoryError) as error:
            self._free()
            return _failure(number, TrialState.INFEASIBLE, f"out of memory: {_first_line(error)}")
        except Exception as error:
            return _failure(number, TrialState.FAILED, f"{type(error).__name__}: {_first_line(error)}")

    def cleanup(self) -> None:
        self._reports = None

    def _run(self) -> Iterator[dict[str, Any]]:
        config = self.config
        spec = TrialSpec.model_validate(config["spec"])
        torch.set_num_threads(config["threads"])
        training, validation = self._resident()
        folder = Path(config["folder"])
        found = checkpoint.latest(folder)
        history = list(found.history) if found else []
        over = bool(history) and history[-1]["last"]
        # What the checkpoint knows and the study does not was trained just before the driver died: told, not repeated.
        for known in history:
            if known["epoch"] > config["epochs_known"] or (over and known is history[-1]):
                yield {**known, "done": known["last"]}
        if over:
            return
        for epoch in train(spec, training, validation, found.state if found else None):
            history.append(
                {
                    "epoch": epoch.number,
                    "metrics": epoch.metrics,
                    "diverged": epoch.diverged,
                    "last": epoch.diverged or epoch.number == spec.train.epochs,
                    "time_ms": int(time.time() * 1000),
                }
            )
            checkpoint.write(folder, Checkpoint(epoch.state(), history))
            yield {**history[-1], "done": history[-1]["last"]}

    def _resident(self) -> tuple[Resident, Resident]:
        key = (self.config["prepared"], str(self.config["data"]))
        if self._splits is None or self._splits[0] != key:
            prepared = open_prepared(Path(self.config["prepared"]), DataSpec.model_validate(self.config["data"]))
            device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
            scale = prepared.info.mean, prepared.info.std
            training, validation = (Resident.load(s, *scale, device) for s in (prepared.train(), prepared.validation()))
            self._splits = (key, training, validation)
        return self._splits[1], self._splits[2]

    def _free(self) -> None:
        self._reports = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _failure(number: int, state: TrialState, reason: str) -> dict[str, Any]:
    return {
        "number": number,
        "failure": state.value,
        "reason": reason,
        "traceback": traceback.format_exc(),
        "done": True,
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
