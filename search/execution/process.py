"""A process that trains: its cores, its device, the data set on it, and a trial's epochs."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util import get_node_ip_address
from torch import Tensor, nn

from search import mps, training
from search.data import Prepared, Split, on_this_machine
from search.errors import first_line
from search.spec import DataSpec, TrialSpec
from search.training import Checkpoint, Compiler, Epoch, Group, Predictions, Resident, device, train_together


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


class SharedFault(RuntimeError):  # noqa: N818 - the trial has none, and goes on
    """A GPU failed, and with it all processes that share it.

    Args:
        card: which, in words.
        error: of CUDA.
    """

    def __init__(self, card: str, error: str) -> None:
        super().__init__(card, error)
        self.card = card

    @classmethod
    def of(cls, error: Exception) -> Exception:
        """`error`, by which the GPU has failed this process, as one of these where others share it."""
        if not mps.joined():
            return error
        (number,) = ray.get_gpu_ids()
        return cls(f"GPU {number} of node {get_node_ip_address()}", first_line(error))


def free_memory() -> None:
    """Frees what trials before have left: some in circles, which Python's own collector may leave for long."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Process:
    """What a process that trains keeps from one trial to the next: its cores, and the data set on its device."""

    def __init__(self, config: dict[str, Any]) -> None:
        if not config["gpus"]:  # before torch starts threads, which run where the thread that starts them does
            device.pin(config["threads"])
            device.keep_freed_memory()
        elif config["gpus"] < 1:  # before torch touches the GPU; where there is no such service, trials take turns
            mps.join()
        torch.set_num_threads(config["threads"])
        self._data: tuple[tuple[str, str], WorkerData] | None = None

    def data(self, config: dict[str, Any]) -> WorkerData:
        """The data set of this trial. Raises InputError, see `WorkerData.load`."""
        key = (str(config["prepared"]), str(config["data"]))
        if self._data is None or self._data[0] != key:
            self._data = (key, WorkerData.load(config))
        return self._data[1]


def epochs(
    trainings: Sequence[tuple[dict[str, Any], Checkpoint | None]],
    data: WorkerData,
    compiler: Compiler | None = None,
    group: Group | None = None,
) -> Iterator[list[Epoch]]:
    """Trains several together in this process, each as its configuration says (see `worker.TrialWorker`).

    A training with a checkpoint continues from it.
    """
    given = [
        (TrialSpec.model_validate(config["spec"]), found.state if found else _weights(config))
        for config, found in trainings
    ]
    return train_together(given, data.training, data.validation, compiler, group)


def _weights(config: dict[str, Any]) -> dict[str, Tensor] | None:
    return None if config["weights"] is None else training.pretrained(config["weights"])
