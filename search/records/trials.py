"""Many trials, and what follows from them: the ranking, the best, its rivals, the Pareto front."""
# pyright: reportMissingTypeStubs=false

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from math import inf, isfinite
from typing import TYPE_CHECKING

import optuna

from search.records.ends import Course
from search.records.gain import HOUR, Gain, expected_gain
from search.records.trial import TrialRecord, TrialState
from search.spec import Objective, SearchSpec

if TYPE_CHECKING:
    from pandas import DataFrame


class Trials(tuple[TrialRecord, ...]):
    """The trials of a study as they are at one moment, in the order in which they came."""

    @classmethod
    def of(cls, study: optuna.Study) -> "Trials":
        """Those of a study in the storage."""
        return cls(map(TrialRecord.of, study.get_trials(deepcopy=False)))

    def with_runs(self, run_ids: Mapping[int, str]) -> "Trials":
        """The same with the ids of their MLflow runs, which are given by number."""
        return Trials(replace(trial, mlflow_run_id=run_ids.get(trial.number)) for trial in self)

    def counts(self) -> dict[str, int]:
        """Number of trials by state: the five ends always, `running` only while some still run."""
        found = {state: sum(trial.state is state for trial in self) for state in TrialState}
        return {state.value: n for state, n in found.items() if n or state is not TrialState.RUNNING}

    @property
    def finished(self) -> int:
        """How many are over, but for refused ones."""
        return sum(trial.finished for trial in self)

    @cached_property
    def started(self) -> "Trials":
        """Without the proposals beyond the study's limits, which never were trials; by number."""
        return Trials(sorted((t for t in self if not t.refused), key=lambda t: t.number))

    @cached_property
    def refused(self) -> "Trials":
        """The proposals beyond the study's limits, by number."""
        return Trials(sorted((t for t in self if t.refused), key=lambda t: t.number))

    def ranked(self) -> "Trials":
        """Complete trials, best first, then the pruned ones: by error, then fewer MACs, then lower number."""
        return self._ranked

    @cached_property
    def _ranked(self) -> "Trials":
        def key(trial: TrialRecord) -> tuple[bool, float, float, int]:
            macs = inf if trial.macs is None else trial.macs
            return trial.state is TrialState.PRUNED, trial.measured or 0.0, macs, trial.number

        return Trials(sorted((trial for trial in self if trial.ranked), key=key))

    @property
    def best(self) -> TrialRecord | None:
        """The first of `ranked`; a pruned trial only where none is complete; None where nothing ended an epoch."""
        return next(iter(self._ranked), None)

    def rivals(self, images: float) -> "Trials":
        """Other trials of the best one's state whose error lies within its `margin`, best first."""
        first = self.best
        if first is None:
            return Trials()
        # Rounding of a percentage must not part equal counts of images.
        limit = (first.measured or 0.0) + first.margin(images) + 1e-9
        return Trials(t for t in self._ranked[1:] if t.state is first.state and (t.measured or 0.0) <= limit)

    def at(self, epoch: int) -> list[tuple[TrialRecord, float]]:
        """Trials with a finite error at that epoch, whatever became of them later: a comparison at equal budget."""
        return [(trial, trial.curve[epoch]) for trial in self if isfinite(trial.curve.get(epoch, inf))]

    def front(self, objectives: Sequence[Objective]) -> "Trials":
        """The trials that are not dominated, by the last of the `objectives`, the cheapest first, then by error.

        One trial dominates another when it is at least as good in every objective and better in one; of trials that are
        equal in all, all stay. Only complete trials are compared, for an error after fewer epochs is another quantity;
        and only those of which every objective was measured.
        """
        points: list[tuple[tuple[float, ...], TrialRecord]] = []
        for trial in self:
            point = tuple(cost for objective in objectives if (cost := trial.cost(objective)) is not None)
            if trial.state is TrialState.COMPLETE and len(point) == len(objectives):
                points.append((point, trial))
        points.sort(key=lambda pair: (pair[0], pair[1].number))
        front: list[tuple[tuple[float, ...], TrialRecord]] = []
        for point, equals in groupby(points, key=lambda pair: pair[0]):
            # Whatever dominates this point comes before it in this order, and so does what dominates that in turn.
            if not any(all(a <= b for a, b in zip(other, point, strict=True)) for other, _ in front):
                front += equals
        return Trials(trial for _, trial in sorted(front, key=lambda pair: (pair[0][::-1], pair[1].number)))

    def is_complete(self, search: SearchSpec, course: Course) -> bool:
        """Whether a search that has come so far has nothing left to run."""
        if any(trial.running for trial in self):
            return False
        return self.finished >= search.trials or course.exhausted is not None or course.end(search, self) is not None

    def stop_reason(self, search: SearchSpec, course: Course) -> str | None:
        """Why there are fewer trials than were asked for, in words."""
        if self.finished >= search.trials:
            return None
        ended = course.end(search, self)
        return course.exhausted if ended is None else ended.reason

    def expected_gain(self, elapsed: float, exhausted: str | None = None, ahead: float = HOUR) -> Gain | None:
        """What more search is expected to bring: that of `ahead` seconds, but no more than have `elapsed`.

        None where too few trials are complete, and where `exhausted` says why nothing is left to propose.
        """
        return None if exhausted else expected_gain(self, elapsed, ahead)

    def to_frame(self) -> "DataFrame":
        """A row for each trial by number: how it ended, its error in percent, its costs, and its parameters by path.

        There are latencies where networks were timed.
        """
        import pandas  # noqa: PLC0415  takes half a second, which nobody else has to wait for

        timed = ("latency_ms",) if any(trial.latency_ms is not None for trial in self) else ()
        shown = ("state", "val_error", "epochs", "params_count", "macs", *timed, "seconds", "images_per_s", "reason")
        rows = [{name: getattr(trial, name) for name in shown} | trial.params for trial in self]
        return pandas.DataFrame(rows, index=pandas.Index([trial.number for trial in self], name="trial"))


Place = tuple[float, int]  # error in percent, number of the trial


class Standings:
    """Trials by number, in the order in which they came, compared after equal numbers of epochs.

    Unlike `Trials` they grow, and each addition costs little.

    Args:
        records: to begin with.
    """

    def __init__(self, records: Iterable[TrialRecord] = ()) -> None:
        self._records: dict[int, TrialRecord] = {}
        self._reached: defaultdict[int, list[Place]] = defaultdict(list)  # epoch -> best first
        self._diverged: list[TrialRecord] = []
        self.complete: list[TrialRecord] = []  # those trained to their end, in the order in which that became known
        for record in records:
            self.put(record)

    def put(self, record: TrialRecord) -> None:
        """Adds a trial, or what has become of one: epochs may have come to its curve, none changes."""
        before = self._records.get(record.number)
        for epoch in record.curve.keys() - (before.curve.keys() if before else ()):
            insort(self._reached[epoch], (record.curve[epoch], record.number))
        if record.state is TrialState.DIVERGED and (before is None or before.state is not TrialState.DIVERGED):
            self._diverged.append(record)
        if record.state is TrialState.COMPLETE and (before is None or before.state is not TrialState.COMPLETE):
            self.complete.append(record)
        self._records[record.number] = record

    def at(self, epoch: int) -> Sequence[Place]:
        """Errors at an epoch, best first: `WORST` of a trial that diverged before it, none where it was not reached."""
        places = self._reached[epoch]
        if late := [(TrialRecord.WORST, r.number) for r in self._diverged if r.epochs < epoch]:
            places = sorted(places + late)
        return places

    def __getitem__(self, number: int) -> TrialRecord:
        return self._records[number]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[TrialRecord]:
        return iter(self._records.values())
