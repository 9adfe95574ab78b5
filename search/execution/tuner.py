"""Ray Tune over the ledger: a Searcher that asks it, a scheduler that decides from it, and restarts.

Ray reads how it authenticates when it is imported: import this file once a session has set it.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.tune import Callback, PlacementGroupFactory, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.execution import internals, worker
from search.execution.recorder import Recorder
from search.records import Asked, TrialRecord, TrialState
from search.spec import Share
from search.storage import scratch

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
    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}


def loss(trial: Trial) -> Loss:
    """Why Tune gave up this trial, from the error that it left in its own folder for it."""
    path = trial.pickled_error_file
    error: object = cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).exists() else None
    lines = str(error or "its worker died").strip().splitlines()
    if not isinstance(error, RayActorError):
        return Loss(lines[-1], "\n".join(lines))
    if error.actor_init_failed:
        return Loss(f"its worker did not start: {lines[-1]}", str(error), final=True)
    machine, unsure = internals.machine(error.actor_id), isinstance(error, ActorUnavailableError)
    return Loss("its worker died", str(error), machine, preempted=error.preempted, unsure=unsure)


@dataclass
class Loop:
    """What a loop of Tune is told, and what goes wrong in it.

    An exception of our own code inside the loop, which Tune would take for a failure of a trial, ends the loop.

    Args:
        closed: True when no trial shall be started any more, and those that train end with their epoch.
        interrupted: True when it is closed, and nothing follows: workers that start are not waited for.
        turn: called at every turn, with the number of trials whose worker has started.
        say: shows the user a line.
    """

    closed: Callable[[], bool] = lambda: False
    interrupted: Callable[[], bool] = lambda: False
    turn: Callable[[int], None] = lambda _: None
    say: Callable[[str], None] = print
    error: Exception | None = field(default=None, init=False)  # the first of ours

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keeps what is raised inside, and lets it pass."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            raise


class _Left(BaseException):
    """Ends Tune's loop as it is. After an `Exception` Tune would wait for each worker, those that start included."""


class _Stateless:
    """Tune pickles what it is given, to restore a run. We continue from the study's records: nothing to keep."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LedgerSearcher(_Stateless, Searcher):
    """Proposes the trials that an earlier process left unfinished, then what the plan says.

    A trial whose worker is lost stays open too, and is the next to be proposed, until it has lost too many. At most
    `concurrent` run at once; `config` is what a worker gets to run one.
    """

    def __init__(
        self,
        recorder: Recorder,
        config: Callable[[Asked], dict[str, Any]],
        concurrent: int,
        loop: Loop,
        restarts: Restarts,
    ) -> None:
        super().__init__()
        self._recorder, self._config, self._concurrent = recorder, config, concurrent
        self._loop, self._restarts = loop, restarts
        self._left = recorder.plan.unfinished
        self._running: dict[str, Asked] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._loop.closed():
            return Searcher.FINISHED
        if len(self._running) >= self._concurrent:
            return None
        with self._loop.watched():
            asked = self._next()
        if asked is None:
            return None if self._running else Searcher.FINISHED  # one that runs may have to be tried again
        self._running[trial_id] = asked
        return self._config(asked)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:
            return  # `lost` is told why
        self._running.pop(trial_id, None)
        if result:
            with self._loop.watched(), self._recorder.ledger.together():
                self._recorder.result(result)

    def lost(self, trial_id: str, loss: Loss) -> None:
        """The worker of a trial died, or could not go on."""
        asked = self._running.pop(trial_id)
        if self._restarts.again(asked.number, loss):
            self._left.insert(0, asked)
            again = f"{loss.cause}; it goes on from its last checkpoint in another"
            self._loop.say(f"{self._recorder.title(asked.number)}: {again}")
        else:
            cause = loss.cause if loss.final else f"{loss.cause}, {RESTARTS + 1} times"
            self._recorder.end(asked.number, TrialState.FAILED, cause, loss.detail)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `_Stateless`. Tune calls it."""

    def _next(self) -> Asked | None:
        while self._left:
            asked = self._left.pop(0)
            # One that diverged is not compared: its worker knows, and says so again.
            diverged = self._recorder.ledger.record(asked.number).val_error == TrialRecord.WORST
            if diverged or not self._recorder.plan.hold(asked.number):
                return asked
        return self._recorder.plan.next()


class LedgerScheduler(_Stateless, FIFOScheduler):
    """Stops a trial when the records say so. Holds no state of its own, so a continued study decides the same."""

    def __init__(self, recorder: Recorder, loop: Loop) -> None:
        super().__init__()
        self._recorder, self._loop = recorder, loop

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        if self._loop.closed():
            return None
        # Tune's own asks every trial that there has been, at every turn.
        pending = (trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING)
        return min(pending, key=lambda trial: trial.config["number"], default=None)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        with self._loop.watched(), self._recorder.ledger.together():
            over = self._recorder.result(result) or self._loop.closed()
        return TrialScheduler.STOP if over else TrialScheduler.CONTINUE


class Watcher(_Stateless, Callback, Stopper):
    """Takes part in every turn of the loop, tells the searcher of trials whose worker was lost, and ends the loop."""

    def __init__(self, searcher: LedgerSearcher, loop: Loop) -> None:
        self._searcher, self._loop = searcher, loop
        self._training = set[str]()  # trials whose worker has started

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        with self._loop.watched():
            self._loop.turn(len(self._training))
        if self._loop.interrupted() and not self._training:
            raise _Left

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._training.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._training.discard(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._training.discard(trial.trial_id)
        with self._loop.watched():
            self._searcher.lost(trial.trial_id, loss(trial))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        over = self._loop.closed() and not self._loop.interrupted() and not self._training
        return self._loop.error is not None or over


def train(recorder: Recorder, config: Callable[[Asked], dict[str, Any]], share: Share, loop: Loop) -> None:
    """Ray Tune spreads trials over the cluster until there are no more or the loop is closed; Ray is connected."""
    # What fails is recorded with its trial, and told at the end.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(share.concurrent)  # all workers start together
    searcher = LedgerSearcher(recorder, config, share.concurrent, loop, Restarts(living))
    watcher = Watcher(searcher, loop)

    def named(trial: Trial) -> str:
        return f"trial-{trial.config['number']:04d}"

    each = {"CPU": share.cpus_each, "GPU": share.gpus / share.processes}
    resources = PlacementGroupFactory([each] * share.processes, strategy="STRICT_PACK")  # on one machine
    with scratch.folder() as folder:  # Tune insists on writing; nothing of it is ever read again
        tuner = tune.Tuner(
            tune.with_resources(worker.TrialWorker, resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=LedgerScheduler(recorder, loop),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=named,
                trial_dirname_creator=named,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(folder),
                verbose=0,
                callbacks=[watcher],
                stop=watcher,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a worker writes its own
                failure_config=tune.FailureConfig(max_failures=0),  # a trial goes on as another of Tune's
            ),
        )
        try:
            with suppress(_Left):  # the workers end with Ray
                tuner.fit()
        finally:
            if loop.error is not None:  # whether Tune ended its loop for it, or has raised it as its own
                raise loop.error
