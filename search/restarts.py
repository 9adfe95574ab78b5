"""Trials whose worker dies: which go on in another one, and which have cost too many."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

RESTARTS = 3  # of a trial whose worker dies while the machine lives


@dataclass(frozen=True)
class Loss:
    """How a worker was lost."""

    cause: str  # in a sentence
    detail: str  # all that is known
    machine: str | None = None  # Ray's id of the node that it was on; None when nobody knows
    final: bool = False  # another worker would end in the same way
    preempted: bool = False  # the machine was taken away
    unsure: bool = False  # the worker is out of reach: it, or its machine, which may yet be found dead


@dataclass
class Restarts:
    """Counts what each trial has lost. A machine that dies, or is taken away, costs its trials nothing.

    That a machine is dead is known seconds after its workers are: so it is asked for of all losses, at each.
    """

    alive: Callable[[], Iterable[str]]  # ids of the machines that live
    _machines: dict[int, list[str | None]] = field(default_factory=dict[int, list[str | None]])

    def again(self, number: int, loss: Loss) -> bool:
        """Whether the trial goes on after this loss."""
        if loss.final or loss.preempted:
            return not loss.final
        machines = self._machines.setdefault(number, [])
        known = [*machines] if loss.unsure else [*machines, loss.machine]
        machines.append(loss.machine)
        dead = {machine for machine in known if machine is not None} - set(self.alive())
        return sum(machine not in dead for machine in known) <= RESTARTS


def living() -> set[str]:
    """Ids of the machines of the cluster that live."""
    import ray

    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}


def loss(trial: "Trial") -> Loss:
    """Why Tune gave up this trial, from the error that it left in its own folder for it."""
    from ray import cloudpickle
    from ray.exceptions import ActorUnavailableError, RayActorError

    path = trial.pickled_error_file
    error: object = cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).exists() else None
    if not isinstance(error, RayActorError):
        lines = str(error or "its worker died").strip().splitlines()
        return Loss(lines[-1], "\n".join(lines))
    if error.actor_init_failed:
        return Loss(f"its worker did not start: {_last(error)}", str(error), final=True)
    unsure = isinstance(error, ActorUnavailableError)
    return Loss("its worker died", str(error), _machine(error.actor_id), preempted=error.preempted, unsure=unsure)


def _machine(actor_id: str) -> str | None:
    from ray._private import state  # the public way to a dead actor's machine needs Ray's dashboard

    found = state.actors(actor_id)
    return str(found["Address"]["NodeID"]) if found else None


def _last(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
