"""A trial, or several together, in a worker of Ray: data, checkpoints and continuation; failures travel as data."""

import logging
import math
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.exceptions import RayActorError
from ray.util import get_node_ip_address

from search import machine, training
from search.errors import Halted, first_line, halt
from search.execution.peers import Peers
from search.execution.process import Process, SharedFault, WorkerData, epochs, free_memory
from search.records import TrialState
from search.spec import TrialSpec
from search.storage import paths
from search.training import Checkpoint, Compiler, Epoch, Writer, device

log = logging.getLogger(__name__)

REPORT_SECONDS = 1.0  # for which a worker trains before it reports; shorter epochs would keep Tune's loop busy


class TrialWorker(tune.Trainable):
    """Trains one specification after another in one process; the data set stays loaded in between.

    The configuration of a trial has `number`, `spec` (a TrialSpec as data), `folder` (path or URL, of its checkpoints),
    `epochs_known` (epochs on record in the study), `rungs` (epochs after which it may be held), `weights` (path or URL
    of those that it starts from; None: they are drawn), `data`, `prepared` (the driver's folder of the prepared data
    set and its digest), `software` (of the driver, as `machine.software`; None where all run on one machine),
    `processes` (that train it together), `threads` and `gpus` of each (a share of a GPU; 0 for the CPU), `compile` and
    `final` (train on train + validation, and test after the last epoch). A worker's last five never change.
    `others` are trained together with it, each by the first six of its own. Where that fails, each goes on alone: there
    was too little memory for all, or it fails by itself.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)
        self._process = Process(config)
        self._peers = Peers()
        self._compiler = Compiler(config["compile"], paths.user_cache() / "resnet-search" / "compiled")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._leave()
        self._begin(new_config)
        free_memory()
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._epochs: Generator[list[dict[str, Any]]] | None = None
        self._left = [[config | own for own in ({}, *config["others"])]]  # not over, in turn; in a list: together

    def step(self) -> dict[str, Any]:
        """Trains for `REPORT_SECONDS`, or to an epoch after which the study decides; reports the epochs, in order."""
        trained: list[dict[str, Any]] = []
        failure: dict[str, Any] = {}
        number, began = self._left[0][0]["number"], time.monotonic()
        try:
            self._epochs = self._epochs or self._run()
            for several in self._epochs:
                trained += several
                if any(map(self._is_decisive, several)) or time.monotonic() - began >= REPORT_SECONDS:
                    break
        except Exception as error:
            if (halted := self._halted(error)) is not None:
                failure = {"halt": str(halted)}
            elif isinstance(error, RayActorError):
                raise  # ends this process: the trial goes on in another
            elif device.broken(error) and not device.out_of_memory(error):
                raise SharedFault.of(error)  # noqa: B904  ends it, too; the error itself, mostly
            elif len(self._left[0]) > 1:
                log.warning(
                    "trainings go on one by one, for together they failed (%s)", first_line(error, "no message")
                )
                failure = {"apart": True}
            else:
                failure = self._failure(error)
        if failure:
            # Out here: as long as there is the exception, there are the tensors of the frames that it came through.
            self._epochs = None
            free_memory()
        over = {epoch["number"] for epoch in trained if epoch["last"]} | ({number} if "failure" in failure else set())
        self._left[0] = [own for own in self._left[0] if own["number"] not in over]
        if "apart" in failure:
            self._left[:1] = [[own] for own in self._left[0]]
        elif not self._left[0]:
            self._left.pop(0)
            self._leave()
        return {"number": number, "epochs": trained, **failure, "done": not self._left}

    def leave(self) -> str | None:
        """The trial goes on later, from a checkpoint of its last epoch, written now; why that cannot be, else None."""
        try:
            self._leave()
        except (OSError, Halted) as error:
            return str(self._halted(error) or error)
        return None

    def cleanup(self) -> None:
        self._leave()

    def _leave(self) -> None:
        left, self._epochs = self._epochs, None
        if left is not None:
            left.close()

    def _is_decisive(self, epoch: dict[str, Any]) -> bool:
        """Whether the study decides after this epoch; then the trial may go on from its checkpoint alone."""
        return epoch["last"] or epoch["epoch"] in self.config["rungs"]

    def _halted(self, error: Exception) -> Halted | None:
        halted = halt(error, self.config["folder"]) if isinstance(error, OSError) else error
        return halted if isinstance(halted, Halted) else None

    def _run(self) -> Generator[list[dict[str, Any]]]:
        config = self.config
        check_software(config["software"])
        data = self._process.data(config)
        mine = [_Training.of(own) for own in self._left[0]]
        for each in mine:
            for known in each.unreported():
                yield [known]
        mine = [each for each in mine if not each.over]
        if not mine:
            return
        if config["processes"] > 1:
            trained = self._peers.train(config, data, mine[0].found)
        else:
            trained = epochs([(each.config, each.found) for each in mine], data, self._compiler)
        with ExitStack() as stack:
            writers = [stack.enter_context(Writer(each.config["folder"])) for each in mine]
            for several in trained:
                ended = [mine[epoch.training].ended(epoch, data, writers[epoch.training]) for epoch in several]
                for epoch, record in zip(several, ended, strict=True):
                    if self._is_decisive(record):
                        writers[epoch.training].flush()
                try:
                    yield ended
                except GeneratorExit:  # `_leave`
                    for writer in writers:
                        writer.flush()
                    raise

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
            "failure": state.value,
            "reason": reason,
            "traceback": traceback.format_exc(),
        }


@dataclass
class _Training:
    """A training of the worker, with what its folder knows of it."""

    config: dict[str, Any]
    found: Checkpoint | None
    history: list[dict[str, Any]]

    @classmethod
    def of(cls, config: dict[str, Any]) -> "_Training":
        found = training.latest(config["folder"])
        return cls(config, found, list(found.history) if found else [])

    @property
    def over(self) -> bool:
        return bool(self.history) and self.history[-1]["last"]

    def unreported(self) -> Iterator[dict[str, Any]]:
        """What the checkpoint knows and the study does not: trained just before the driver died, and not repeated."""
        for known in self.history:
            if known["epoch"] > self.config["epochs_known"] or known["last"]:
                yield self._report(known)

    def ended(self, epoch: Epoch, data: WorkerData, writer: Writer) -> dict[str, Any]:
        """The report of an epoch, which the writer gets; after the last one a finalist is tested."""
        spec = TrialSpec.model_validate(self.config["spec"])
        metrics, diverged, tested = epoch.metrics, epoch.diverged, None
        if self.config["final"] and not diverged and epoch.number == spec.train.epochs:
            found, predictions = data.test(epoch.model, spec.train.image_size)
            metrics = metrics | {f"test/{name}": value for name, value in found.items()}
            diverged, tested = not math.isfinite(found["loss"]), predictions.stored
        self.history.append(
            {
                "epoch": epoch.number,
                "metrics": metrics,
                "diverged": diverged,
                "last": diverged or epoch.number == spec.train.epochs,
                "time_ms": int(time.time() * 1000),
            }
        )
        writer.keep(epoch, self.history, tested)
        return self._report(self.history[-1])

    def _report(self, record: dict[str, Any]) -> dict[str, Any]:
        return {"number": self.config["number"], **record}


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
