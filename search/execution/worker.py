"""One trial in a worker of Ray: its data, checkpoints and continuation; failures travel as data."""

import math
import time
import traceback
from collections.abc import Generator
from typing import Any

from ray import tune
from ray.exceptions import RayActorError
from ray.util import get_node_ip_address

from search import machine, training
from search.errors import Halted, first_line, halt
from search.execution.peers import Peers
from search.execution.process import Process, SharedFault, epochs, free_memory
from search.records import TrialState
from search.spec import TrialSpec
from search.storage import paths
from search.training import Compiler, Writer, device

REPORT_SECONDS = 1.0  # for which a worker trains before it reports; shorter epochs would keep Tune's loop busy


class TrialWorker(tune.Trainable):
    """Trains one specification after another in one process; the data set stays loaded in between.

    The configuration of a trial has `number`, `spec` (a TrialSpec as data), `folder` (path or URL, of its checkpoints),
    `epochs_known` (epochs on record in the study), `rungs` (epochs after which it may be held), `weights` (path or URL
    of those that it starts from; None: they are drawn), `data`, `prepared` (the driver's folder of the prepared data
    set and its digest), `software` (of the driver, as `machine.software`; None where all run on one machine),
    `processes` (that train it together), `threads` and `gpus` of each (a share of a GPU; 0 for the CPU), `compile` and
    `final` (train on train + validation, and test after the last epoch). A worker's last five never change.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._epochs: Generator[dict[str, Any]] | None = None
        self._process = Process(config)
        self._peers = Peers()
        self._compiler = Compiler(config["compile"], paths.user_cache() / "resnet-search" / "compiled")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._leave()
        free_memory()
        return True

    def step(self) -> dict[str, Any]:
        """Trains for `REPORT_SECONDS`, or to an epoch after which the study decides; reports the epochs, in order."""
        trained: list[dict[str, Any]] = []
        report, began = {"number": self.config["number"], "epochs": trained}, time.monotonic()
        try:
            self._epochs = self._epochs or self._run()
            for epoch in self._epochs:
                trained.append(epoch)
                if self._is_decisive(epoch) or time.monotonic() - began >= REPORT_SECONDS:
                    break
            return report | {"done": trained[-1]["last"]}
        except Exception as error:
            if (halted := self._halted(error)) is not None:
                failure = {"halt": str(halted)}
            elif isinstance(error, RayActorError):
                raise  # ends this process: the trial goes on in another
            elif device.broken(error) and not device.out_of_memory(error):
                raise SharedFault.of(error)  # noqa: B904  ends it, too; the error itself, mostly
            else:
                failure = self._failure(error)
        # Out here: as long as there is the exception, there are the tensors of the frames that it came through.
        free_memory()
        return report | failure

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

    def _run(self) -> Generator[dict[str, Any]]:
        config = self.config
        check_software(config["software"])
        spec = TrialSpec.model_validate(config["spec"])
        data = self._process.data(config)
        folder = config["folder"]
        found = training.latest(folder)
        history = list(found.history) if found else []
        over = bool(history) and history[-1]["last"]
        # What the checkpoint knows and the study does not was trained just before the driver died: it is not repeated.
        for known in history:
            if known["epoch"] > config["epochs_known"] or (over and known is history[-1]):
                yield known
        if over:
            return
        if config["processes"] > 1:
            trained = self._peers.train(config, data, found)
        else:
            trained = epochs(config, data, found, self._compiler)
        with Writer(folder) as writer:
            for epoch in trained:
                metrics, diverged, tested = epoch.metrics, epoch.diverged, None
                if config["final"] and not diverged and epoch.number == spec.train.epochs:
                    found, predictions = data.test(epoch.model, spec.train.image_size)
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
                writer.keep(epoch, history, tested)
                if self._is_decisive(history[-1]):
                    writer.flush()
                try:
                    yield history[-1]
                except GeneratorExit:  # `_leave`
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
