"""One trial in a worker of Ray: its data, checkpoints and continuation; failures travel as data."""

import gc
import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.util import get_node_ip_address
from torch import nn

from search import machine, training
from search.data import Prepared, Split, on_this_machine
from search.errors import Halted, first_line, halt
from search.records import TrialState
from search.spec import DataSpec, TrialSpec
from search.storage import paths
from search.training import Checkpoint, Compiler, Predictions, Resident, device, train


@dataclass(frozen=True)
class WorkerData:
    """A data set on its device."""

    prepared: Prepared  # on this machine
    where: torch.device
    training: Resident  # of a trial, the training split; of a finalist, train + validation
    validation: Resident | None  # None for a finalist

    @classmethod
    def load(cls, config: dict[str, Any]) -> "WorkerData":
        """For the trials of this configuration (see `search.execution.worker.TrialWorker`).

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

    def test(self, model: nn.Module, size: int) -> tuple[dict[str, float], Predictions]:
        """Metrics and answers on the test split, opened now: of a network that has been trained to its end.

        `size` is that of the images that it sees in pixels; 0: as they are.
        """
        split = self.prepared.test()
        on_device = _resident(self.prepared, split, self.where).at(size)
        return Predictions.by(model, on_device, split, self.prepared.test_names())


def _resident(prepared: Prepared, split: Split, where: torch.device) -> Resident:
    # All splits are scaled by the training split's mean and deviation: a finalist sees its pixels as its trial did.
    return Resident.load(split, prepared.info.mean, prepared.info.std, where)


class TrialWorker(tune.Trainable):
    """Trains one specification after another in one process; the data set stays loaded in between.

    The configuration of a trial has `number`, `spec` (a TrialSpec as data), `folder` (path or URL, of its checkpoints),
    `epochs_known` (epochs on record in the study), `weights` (path or URL of those that it starts from; None: they are
    drawn), `data`, `prepared` (the driver's folder of the prepared data set and its digest), `software` (of the driver,
    as `machine.software`; None where all run on one machine), `cpus` (its cores), `threads`, `gpus` (its share of a
    GPU; 0 for the CPU), `compile` and `final` (train on train + validation, and test after the last epoch). A worker's
    last six never change.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])

    def setup(self, config: dict[str, Any]) -> None:
        self._reports: Iterator[dict[str, Any]] | None = None
        self._data: tuple[tuple[str, str], WorkerData] | None = None
        if not config["gpus"]:  # before torch starts threads, which run where the thread that starts them does
            device.pin(config["threads"])
            device.keep_freed_memory()
        torch.set_num_threads(config["threads"])
        self._compiler = Compiler(config["compile"], paths.user_cache() / "resnet-search" / "compiled")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports = None
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self._reports is None:
                self._reports = self._run()
            return {"number": self.config["number"], **next(self._reports)}
        except Exception as error:
            halted = halt(error, self.config["folder"]) if isinstance(error, OSError) else error
            if isinstance(halted, Halted):
                failure = {"number": self.config["number"], "halt": str(halted)}
            elif device.broken(error) and not device.out_of_memory(error):
                raise  # ends this process: the trial goes on in another
            else:
                failure = self._failure(error)
        # Out here: as long as there is the exception, there are the tensors of the frames that it came through. The
        # rest is in circles (an optimiser's hooks), which Python's own collector may leave for long.
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return failure

    def cleanup(self) -> None:
        self._reports = None

    def _run(self) -> Iterator[dict[str, Any]]:
        config = self.config
        check_software(config["software"])
        spec = TrialSpec.model_validate(config["spec"])
        splits = self._splits()
        folder = config["folder"]
        found = training.latest(folder)
        history = list(found.history) if found else []
        over = bool(history) and history[-1]["last"]
        # What the checkpoint knows and the study does not was trained just before the driver died: it is not repeated.
        for known in history:
            if known["epoch"] > config["epochs_known"] or (over and known is history[-1]):
                yield {**known, "done": known["last"]}
        if over:
            return
        state, start = found.state if found else None, None
        if config["weights"] is not None and state is None:
            start = training.pretrained(config["weights"])
        for epoch in train(spec, splits.training, splits.validation, state, self._compiler, start):
            metrics, diverged, tested = epoch.metrics, epoch.diverged, None
            if config["final"] and not diverged and epoch.number == spec.train.epochs:
                found, predictions = splits.test(epoch.model, spec.train.image_size)
                metrics = metrics | {f"test/{name}": value for name, value in found.items()}
                diverged, tested = not math.isfinite(found["loss"]), predictions.stored
            history.append(
                {
                    "epoch": epoch.number,
                    "metrics": metrics,
                    "diverged": diverged,
                    "last": diverged or epoch.number == spec.train.epochs,
                    "time_ms": int(time.time() * 1000),
                }
            )
            training.write(folder, Checkpoint(epoch.state(), history, tested))
            yield {**history[-1], "done": history[-1]["last"]}

    def _splits(self) -> WorkerData:
        key = (str(self.config["prepared"]), str(self.config["data"]))
        if self._data is None or self._data[0] != key:
            self._data = (key, WorkerData.load(self.config))
        return self._data[1]

    def _failure(self, error: Exception) -> dict[str, Any]:
        gpus, reason = self.config["gpus"], first_line(error, "no message")
        if not device.out_of_memory(error):
            state, reason = TrialState.FAILED, f"{type(error).__name__}: {reason}"
        elif 0 < gpus < 1:
            whole = "resources.gpus_per_trial=1 gives a trial a whole one"
            state, reason = TrialState.INFEASIBLE, f"out of memory in {gpus:g} of a GPU: {reason}; {whole}"
        else:
            state, reason = TrialState.INFEASIBLE, f"out of memory: {reason}"
        return {
            "number": self.config["number"],
            "failure": state.value,
            "reason": reason,
            "traceback": traceback.format_exc(),
            "done": True,
        }


def check_software(driver: dict[str, str] | None) -> None:
    """Refuses to train on a node with other software than the `driver` has; None: there is no other node.

    Raises:
        Halted: naming the node and what differs.
    """
    here = machine.software()
    for name, wanted in (driver or {}).items():
        if here[name] != wanted:
            raise Halted(
                f"node {get_node_ip_address()} has {name} {here[name]}, the driver {wanted}; install the same on all "
                "nodes of the cluster"
            )
