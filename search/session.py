"""Ray, connected for as long as a study has something to train."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from search import host
from search.data import Prepared
from search.interrupt import Interrupt
from search.ledger import Asked, Ledger
from search.packing import Packing, pack
from search.recorder import Recorder
from search.spec import TrialSpec
from search.study_spec import StudySpec
from search.tuning import tune_until_done

NOTED_SECONDS = 10.0  # how often the time spent is noted


class Clock:
    """The time that is spent on a part of a study, over all starts; a process that is killed loses seconds of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._since: float | None = None  # None: nothing is being spent

    @property
    def elapsed(self) -> float:
        """Seconds."""
        return self._ledger.elapsed + (0.0 if self._since is None else time.monotonic() - self._since)

    def start(self) -> None:
        """From now on time is spent."""
        self._since = time.monotonic()

    def note(self, least: float = 0.0) -> None:
        """Writes down what has been spent, if it is at least so many seconds more than was written."""
        now = time.monotonic()
        if self._since is not None and now - self._since >= least:
            self._ledger.add_elapsed(now - self._since)
            self._since = now

    def stop(self) -> None:
        """Writes down what has been spent; what comes after is not."""
        self.note()
        self._since = None


@dataclass
class Session:
    """As a context: Ray is started or joined, and left.

    Args:
        spec: of the study.
        data: prepared.
        interrupt: armed again once Ray has started.
    """

    spec: StudySpec
    data: Prepared
    interrupt: Interrupt

    def __enter__(self) -> Self:
        self._ray = host.connected(self.spec.resources, self.spec.search)
        self.share, self._check = self._ray.__enter__()
        self.interrupt.arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.__exit__(kind, error, trace)

    def pack(self, network: TrialSpec, trials: int, closed: Callable[[], bool]) -> Packing | None:
        """Lets as many trials share a GPU as fit, by what the largest network takes of one; see `packing.pack`."""
        self.share, packing = pack(self.share, self.spec, network, self.data.info, trials, closed)
        return packing

    def train(
        self,
        recorder: Recorder,
        final: bool,
        closed: Callable[[], bool],
        show: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """Trains what the recorder's course says, until there is no more of it or it is `closed`."""

        def config(asked: Asked, alone: bool) -> dict[str, Any]:
            return {
                "number": asked.number,
                "spec": asked.spec.model_dump(mode="json"),
                "folder": recorder.folder(asked.number),
                "epochs_known": recorder.known_epochs(asked.number),
                "data": self.spec.data.model_dump(mode="json"),
                "prepared": [str(self.data.folder), self.data.info.digest],
                "threads": self.share.threads,
                "gpus": 1.0 if alone else self.share.gpus,
                "compile": self.spec.resources.compile.value,
                "final": final,
            }

        def turn() -> None:
            self._check()
            show()

        tune_until_done(recorder, config, self.spec, self.share, closed, turn, say)
