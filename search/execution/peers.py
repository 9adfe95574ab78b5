"""The other processes of a trial that holds several GPUs of a machine, as actors of Ray."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from search import training
from search.execution.process import Process, WorkerData, epochs, free_memory
from search.storage import scratch
from search.training import Checkpoint, Epoch, Group

ANSWER = 30.0  # seconds in which a process tells why it has left the others


class Peer:
    """Trains together with the trial's worker: an epoch a call."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._process = Process(config)
        self._epochs: Iterator[Epoch] | None = None

    def begin(self, config: dict[str, Any], rank: int, meeting: str) -> None:
        """Takes part in a trial, from its last checkpoint on."""
        self._epochs = None
        free_memory()
        self._epochs = self._train(config, rank, Path(meeting))

    def epoch(self) -> None:
        """Trains the next epoch, if there is one."""
        assert self._epochs is not None
        next(self._epochs, None)

    def leave(self) -> None:
        """Takes part no longer."""
        self._epochs = None

    def _train(self, config: dict[str, Any], rank: int, meeting: Path) -> Iterator[Epoch]:
        data, found = self._process.data(config), training.latest(config["folder"])
        with Group.joined(meeting, rank, config["processes"], data.where) as group:
            for (epoch,) in epochs([(config, found)], data, group=group):
                yield epoch


class Peers:
    """Those of a worker. They are started for its first trial, and stay until something fails."""

    def __init__(self) -> None:
        self._actors: list[Any] = []

    def train(self, config: dict[str, Any], data: WorkerData, found: Checkpoint | None) -> Iterator[list[Epoch]]:
        """Trains a trial in this process and its peers together.

        Raises what a peer has raised, and RayActorError where a peer has died.
        """
        self._actors = self._actors or [_start(config, rank) for rank in range(1, config["processes"])]
        with scratch.folder() as folder:
            meeting = folder / "meeting"
            ray.get([peer.begin.remote(config, rank, str(meeting)) for rank, peer in enumerate(self._actors, 1)])
            asked = self._ask("epoch")
            try:
                with Group.joined(meeting, 0, config["processes"], data.where) as group:
                    for epoch in epochs([(config, found)], data, group=group):
                        ray.get(asked)
                        yield epoch
                        asked = self._ask("epoch")
            except GeneratorExit:
                self._ask("leave")
                raise
            except Exception as error:
                raise self._ended(error, asked) from error

    def _ask(self, what: str) -> list[Any]:
        return [getattr(peer, what).remote() for peer in self._actors]

    def _ended(self, error: Exception, asked: list[Any]) -> Exception:
        """Ends the peers, which may wait for each other; returns the error of the process that failed first."""
        causes = [error]
        if Group.has_lost_another(error):
            answers, _ = ray.wait(asked, num_returns=len(asked), timeout=ANSWER)
            causes = [*filter(None, map(_failure, answers)), error]
        for peer in self._actors:
            ray.kill(peer)
        self._actors = []
        return next((cause for cause in causes if not Group.has_lost_another(cause)), error)


def _start(config: dict[str, Any], rank: int) -> Any:
    held = get_current_placement_group()  # what Tune has given to the trial
    assert held is not None
    place = PlacementGroupSchedulingStrategy(held, placement_group_bundle_index=rank)
    return (
        ray.remote(Peer)
        .options(num_cpus=config["cpus"], num_gpus=config["gpus"], scheduling_strategy=place)
        .remote(config)
    )


def _failure(answer: Any) -> Exception | None:
    try:
        ray.get(answer)
    except RayTaskError as failed:
        return failed.cause
    except RayActorError as died:
        return died
    return None
