"""A study whose records are written as its driver writes them, without training; MLflow mirrors them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.optimize import final_ledger
from search.records import Conclusion, Ledger, Metrics, TrialState, open_storage
from search.spec import Appraisal, PreparedInfo, StudySpec, TrialSpec, load
from search.tracking import Cursor, Mirror, Source, Store

START = 1_700_000_000_000  # Unix time in ms: of what workers report
INFO = PreparedInfo(
    name="digits",
    classes=tuple("0123456789"),
    height=8,
    width=8,
    channels=1,
    n_train=1293,
    n_validation=145,
    n_test=359,
    counts_validation=(14, 15, 14, 15, 15, 15, 15, 14, 14, 14),
    counts_test=(36, 36, 35, 37, 36, 36, 36, 36, 35, 36),
    digest="5f2c",
    mean=(0.3,),
    std=(0.4,),
)
STUDY: dict[str, Any] = {
    "name": "digits",
    "train": {"epochs": 5},
    "space": {"net.depth": [8, 14, 20], "net.version": ["v1", "v2"]},
    "search": {"trials": 24},
}
PARAMS, MACS = 272_474, 40_551_000  # of every network here


def free(spec: TrialSpec) -> Appraisal:
    """Within any limit."""
    return Appraisal(PARAMS, MACS, 1, {}, None)


class Study:
    """The records in `folder`, new or as they were left, and their mirror in `store`."""

    def __init__(self, folder: Path, store: Store, changes: Mapping[str, Any] | None = None) -> None:
        self.folder, self.store = folder, store
        folder.mkdir(parents=True, exist_ok=True)
        self.spec: StudySpec = load(STUDY, list((changes or {}).items()))
        self.space = self.spec.make_space(INFO.shape, len(INFO.classes))
        storage = open_storage(folder / "optuna.journal")
        self.search = Ledger(storage, self.spec.name, self.space, free)
        self._storage = storage
        self.finals = final_ledger(storage, self.spec.name, free)
        source = Source(self.spec, INFO, str(folder), self.search, lambda: self.finals)
        self.mirror = Mirror(source, store, folder)

    def start(self, depth: int = 8, version: str = "v1") -> int:
        """Begins a trial; its number."""
        asked = self.search.add({**self.space.fixed, "net.depth": depth, "net.version": version})
        assert asked is not None
        return asked.number

    def report(self, number: int, epoch: int, seed: bool = False, /, **metrics: float) -> None:
        """An epoch of a trial, or of a training of the finals by its number there."""
        ledger = self.finals if seed else self.search
        values = {"val/error": error(number, epoch), "train/loss": 1 / epoch} | metrics
        values |= {"cost/seconds": 0.5, "cost/images_per_s": 100.0}
        ledger.report(number, epoch, values["val/error"], Metrics(time_of(number, epoch), values))

    def trial(self, depth: int = 8, epochs: int = 5) -> int:
        """A whole trial; its number."""
        number = self.start(depth)
        for epoch in range(1, epochs + 1):
            self.report(number, epoch)
        self.search.finish(number, TrialState.COMPLETE)
        return number

    def seed(self, finalist: int, seed: int, test: float, epochs: int = 1) -> int:
        """A training of a finalist, tested; its number in the finals."""
        self.finals = (
            final_ledger(self._storage, self.spec.name, free, create=True) if not self.finals.records else self.finals
        )
        spec = TrialSpec.from_flat(self.search.record(finalist).params | {"train.seed": seed})
        asked = self.finals.enter(finalist, spec)
        assert asked is not None
        for epoch in range(1, epochs + 1):
            tested = {"test/error": test, "test/loss": 0.5} if epoch == epochs else {}
            self.report(asked.number, epoch, True, **tested)
        self.finals.finish(asked.number, TrialState.COMPLETE)
        return asked.number

    def conclude(self, note: str = "# Done", state: str = "complete", **more: Any) -> None:
        """The study ends."""
        metrics = {self.search.records.finished: Metrics(START, {"trials/complete": 1.0})}
        self.search.conclude(Conclusion(state, START + 99_000, note, metrics=metrics, **more))

    def go_on(self) -> None:
        """It goes on after it had ended."""
        assert self.search.conclusion is not None
        self.search.conclude(replace(self.search.conclusion, state="running"))

    def sent(self, write: Callable[["Study"], None] = lambda study: None) -> "Study":
        """Starts the mirror, writes, waits until MLflow has everything, and stops it."""
        self.mirror.start()
        write(self)
        assert self.mirror.drain(60) == 0
        self.mirror.close()
        return self

    @property
    def cursor(self) -> Cursor:
        return Cursor.at(self.folder / Cursor.FILE)

    @property
    def run(self) -> str:
        """Id of its own run."""
        found = self.cursor.study
        assert found is not None
        return found


def error(number: int, epoch: int) -> float:
    """The validation error of an epoch."""
    return 50 / epoch + number


def time_of(number: int, epoch: int) -> int:
    """When it ended."""
    return START + number * 1000 + epoch
