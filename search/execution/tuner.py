"""Ray Tune over the ledger: a Searcher that asks it, a scheduler that decides from it, and restarts.

Ray reads how it authenticates when it is imported: import this file once a session has set it.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.tune import Callback, PlacementGroupFactory, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.errors import Halted
from search.execution import internals, worker
from search.execution.process import SharedFault
from search.execution.recorder import Recorder
from search.formatting import plural
from search.records import Asked, TrialRecord, TrialState
from search.spec import Share
from search.storage import scratch

RESTARTS = 3  # of a trial whose worker dies while the machine lives
TOGETHER = 5  # trainings of one worker at the most
FOUND = 5.0  # seconds in which all trials of a GPU that failed are found lost


@dataclass(frozen=True)
class Loss:
    """How a worker was lost."""

    cause: str  # in a sentence
    detail: str  # all that is known
    machine: str | None = None  # Ray's id of the node that it was on; None when nobody knows
    final: bool = False  # another worker would end in the same way
    preempted: bool = False  # the machine was taken away
    unsure: bool = False  # the worker is out of reach: it, or its machine, which may yet be found dead
    card: str | None = None  # the GPU that failed, and with it all trials on it
    weight: float = 1.0  # of a restart: trials that one fault of their GPU has ended share one


@dataclass
class Restarts:
    """Counts what each trial has lost. A machine that dies, or is taken away, costs its trials nothing.

    A fault of a GPU costs one restart in all, whoever caused it: of each trial on it as much as it holds of the GPU.
    That a machine is dead is known seconds after its workers are: so it is asked for of all losses, at each.
    """

    alive: Callable[[], Iterable[str]]  # ids of the machines that live
    _losses: dict[int, list[Loss]] = field(default_factory=dict[int, list[Loss]])

    def again(self, number: int, loss: Loss) -> bool:
        """Whether the trial goes on after this loss."""
        if loss.final or loss.preempted:
            return not loss.final
        losses = self._losses.setdefault(number, [])
        known = [*losses] if loss.unsure else [*losses, loss]
        losses.append(loss)
        return sum(each.weight for each in self._counted(known)) <= RESTARTS

    def counted(self, number: int) -> int:
        """Losses of a trial that count."""
        return len(self._counted(self._losses.get(number, [])))

    def _counted(self, losses: list[Loss]) -> list[Loss]:
        alive = set(self.alive())
        return [loss for loss in losses if loss.machine is None or loss.machine in alive]


@dataclass
class Faults:
    """Tells what a fault of a GPU has ended in one line, once all trials on it had time to be found lost."""

    say: Callable[[str], None]
    _ended: dict[str, tuple[float, set[int]]] = field(default_factory=dict[str, tuple[float, set[int]]])

    def add(self, card: str, number: int) -> None:
        """Trial `number` was on it."""
        self._ended.setdefault(card, (time.monotonic(), set()))[1].add(number)

    def tell(self, after: float = FOUND) -> None:
        """Says so for each GPU whose first trial was lost at least `after` seconds ago."""
        for card, (since, numbers) in [*self._ended.items()]:
            if time.monotonic() - since >= after:
                del self._ended[card]
                ended = f"a fault on {card} ended {plural(len(numbers), 'trial')}"
                go_on = "that shared it; they go on from their last checkpoints"
                self.say(f"{ended} {go_on if len(numbers) > 1 else 'there; it goes on from its last checkpoint'}")


def living() -> set[str]:
    """Ids of the machines of the cluster that live."""
    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}


def loss(trial: Trial) -> Loss:
    """Why Tune gave up this trial, from the error that it left in its own folder for it."""
    path = trial.pickled_error_file
    error: object = cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).exists() else None
    lines = str(error or "its worker died").strip().splitlines()
    if isinstance(error, RayTaskError) and isinstance(error.cause, SharedFault):
        card = error.cause.card
        return Loss(f"a fault on {card} ended it", "\n".join(lines), card=card, weight=trial.config["gpus"])
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
    `concurrent` workers run at once, each with up to `together` trainings of the same steps, but with no more than
    leave some to the others; `config` is what a worker gets to run them.
    """

    def __init__(
        self,
        recorder: Recorder,
        config: Callable[[Sequence[Asked]], dict[str, Any]],
        concurrent: int,
        loop: Loop,
        restarts: Restarts,
        together: int = 1,
    ) -> None:
        super().__init__()
        self._recorder, self._config, self._concurrent, self._together = recorder, config, concurrent, together
        self._loop, self._restarts, self.faults = loop, restarts, Faults(loop.say)
        self._left = recorder.plan.unfinished
        self._running: dict[str, list[Asked]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._loop.closed():
            return Searcher.FINISHED
        if len(self._running) >= self._concurrent:
            return None
        with self._loop.watched():
            asked = self._next()
            if asked is None:
                return None if self._running else Searcher.FINISHED  # one that runs may have to be tried again
            self._running[trial_id] = self._with_others(asked)
        return self._config(self._running[trial_id])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:
            return  # `lost` is told why
        self._running.pop(trial_id, None)
        if result:
            with self._loop.watched(), self._recorder.ledger.together():
                self._recorder.result(result)

    def lost(self, trial_id: str, loss: Loss) -> None:
        """The worker of a trial died, or could not go on."""
        for asked in reversed(self._running.pop(trial_id)):
            if not self._recorder.ledger.record(asked.number).running:
                continue
            if not self._restarts.again(asked.number, loss):
                cause = loss.cause if loss.final else f"{loss.cause}, {self._restarts.counted(asked.number)} times"
                self._recorder.end(asked.number, TrialState.FAILED, cause, loss.detail)
                continue
            self._left.insert(0, asked)
            if loss.card is not None:
                self.faults.add(loss.card, asked.number)
                continue
            again = f"{loss.cause}; it goes on from its last checkpoint in another"
            self._loop.say(f"{self._recorder.title(asked.number)}: {again}")

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

    def _with_others(self, first: Asked) -> list[Asked]:
        """It, and what is to be trained together with it."""
        group, plan = [first], self._recorder.plan
        if self._together == 1:
            return group
        open_ = plan.total - plan.finished - sum(map(len, self._running.values()))
        while len(group) < min(self._together, ceil(open_ / self._concurrent)):
            another = next((asked for asked in self._left if asked.spec.has_steps_of(first.spec)), None)
            if another is not None:
                self._left.remove(another)
            else:
                another = plan.beside(first)
            if another is None:
                break
            group.append(another)
        return group


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
        self._left: list[Any] = []  # answers, to come, of workers that write the last epoch of a trial

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        with self._loop.watched():
            self._loop.turn(len(self._training))
            self._searcher.faults.tell()
        if self._loop.interrupted() and not self._training:
            raise _Left

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._training.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._training.discard(trial.trial_id)
        worker = trial.temporary_state.ray_actor
        if worker is not None and self._loop.closed():  # it may be between two checkpoints
            self._left.append(worker.leave.remote())

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._training.discard(trial.trial_id)
        with self._loop.watched():
            self._searcher.lost(trial.trial_id, loss(trial))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._training or not self._loop.closed():
            return self._loop.error is not None
        while self._left:  # Tune itself ends workers after ten seconds
            with suppress(RayError):  # the trial goes on from the checkpoint before
                halted: Any = ray.get(self._left.pop())
                self._loop.error = self._loop.error or (Halted(halted) if halted else None)
        return self._loop.error is not None or not self._loop.interrupted()


def train(
    recorder: Recorder, config: Callable[[Sequence[Asked]], dict[str, Any]], share: Share, loop: Loop, together: int
) -> None:
    """Ray Tune spreads trials over the cluster until there are no more or the loop is closed; Ray is connected.

    Arguments as of `LedgerSearcher`.
    """
    # What fails is recorded with its trial, and told at the end.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(share.concurrent)  # all workers start together
    searcher = LedgerSearcher(recorder, config, share.concurrent, loop, Restarts(living), together)
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
            with internals.uncounted(), suppress(_Left):  # the workers end with Ray
                tuner.fit()
        finally:
            searcher.faults.tell(after=0.0)
            if loop.error is not None:  # whether Tune ended its loop for it, or has raised it as its own
                raise loop.error
