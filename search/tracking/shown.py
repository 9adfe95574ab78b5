"""A study as MLflow is to show it, by its records: the study is the parent run, each trial a child, each training of a
finalist a child of its trial.

Metrics have the epoch as step. A run has the status FINISHED for complete, pruned and diverged trials (each an answer
about a configuration; the tag `search.state` tells them apart) and FAILED for failed and infeasible ones, which were
never trained; the tag `search.reason` says why. An interrupted study is KILLED.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log10
from statistics import stdev
from typing import Any

from search.records import Conclusion, Ledger, Metrics, TrialRecord, TrialState
from search.spec import PreparedInfo, StudySpec, TrialSpec
from search.statistics import LEVEL, mean_error_interval
from search.storage import is_url
from search.tracking.cursor import STUDY, Mark
from search.tracking.views import LAST, LEAST, LOG, ORDER, on_log

RUNNING = "running"
STATUS = {
    RUNNING: "RUNNING",
    "complete": "FINISHED",  # a trial that learned something, be it that the network diverges, has done its work
    "pruned": "FINISHED",
    "diverged": "FINISHED",
    "infeasible": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
PROVENANCE = {"commit": "mlflow.source.git.commit", "version": "search.version", "command": "search.command"}  # -> tag
NOTE = "mlflow.note.content"  # the tag that MLflow shows as description of a run
DIGITS = 2  # of errors in percent in MLflow's table, which shows each digit that there is
CONCLUSION = "conclusion"  # what is sent of the study's run when all else has been


@dataclass(frozen=True)
class Dataset:
    """What a run was trained on. Of one name and digest MLflow keeps one data set, with the profile that came first."""

    name: str
    digest: str  # at most 36 characters
    source: str  # where the images came from
    profile: Mapping[str, Any]
    context: str  # what for: MLflow shows it beside the name


@dataclass(frozen=True)
class Face:
    """What a run begins with. Of a study, params may change; of others, nothing."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    dataset: Dataset
    spec: str | None = None  # the text of `trial.json`


@dataclass(frozen=True)
class Shown:
    """One run, or what is sent of one at a time. Times are Unix times in ms."""

    run: str  # its key among those of the study
    key: str  # names this part of it in the cursor
    began: int
    parent: str | None = None  # key of the run above
    face: Callable[[], Face] | None = None  # None where another part has it
    version: str = ""  # of the face
    epochs: Mapping[int, Metrics] = field(default_factory=dict[int, Metrics])
    once: Sequence[tuple[int, Metrics]] = ()  # by step, what is known when it has ended
    state: str = RUNNING  # how it has ended, a key of `STATUS`
    tags: Mapping[str, str] = field(default_factory=dict[str, str])  # that say more of it
    files: Sequence[str] = ()  # paths or URLs
    ended: int | None = None
    conclusion: Conclusion | None = None  # of the study, in its last part

    @cached_property
    def mark(self) -> Mark:
        """How much there is to send."""
        return Mark(self.version, max(self.epochs, default=0), f"{self.state} {len(self.once)} {self.ended or ''}")

    def steps(self, sent: Mark) -> dict[str, int]:
        """Metric -> its last step, of what was `sent`."""
        points = [(epoch, metrics) for epoch, metrics in self.epochs.items() if epoch <= sent.epoch]
        points += self.once if sent.end == self.mark.end else ()
        found: dict[str, int] = {}
        for step, metrics in points:
            found.update({name: max(step, found.get(name, step)) for name in metrics.values})
        return found


@dataclass(frozen=True)
class Source:
    """The records of a study that MLflow mirrors. Any thread may ask: records are frozen."""

    spec: StudySpec
    info: PreparedInfo  # of its data
    place: str  # path or URL of its folder, below which weights and reports are
    search: Ledger
    finals: Callable[[], Ledger]  # it is another once they begin
    _last: dict[int, tuple[TrialRecord, Shown]] = field(
        default_factory=dict[int, tuple[TrialRecord, Shown]], init=False, compare=False
    )

    def shown(self) -> Iterator[Shown]:
        """Everything in an order in which it can be sent: a run comes after its parent, the conclusion last."""
        conclusion = self.search.conclusion
        study = self._study()
        yield study
        finals = self.finals()
        trainings: dict[int, list[TrialRecord]] = {}
        for record in finals.settled:
            if record.finalist is not None and not record.refused:
                trainings.setdefault(record.finalist, []).append(record)
        trials = [record for record in self.search.settled if not record.refused]
        for record in trials:
            yield self._trial(record, trainings.get(record.number, ()))
        known = {record.number for record in trials}
        yield from self._rows(finals.numbers, {n: own for n, own in trainings.items() if n not in known}, conclusion)
        for number, own in trainings.items():
            yield from (self._seed(number, record) for record in own)
        if conclusion is not None:
            yield self._conclusion(study, conclusion)

    def _study(self) -> Shown:
        params = {path: str(value) for path, value in self.spec.flat().items()}
        tags = {"search.study": self.spec.name, "search.kind": "study", **self._provenance()}
        version = hashlib.sha256(json.dumps([params, tags], sort_keys=True).encode()).hexdigest()[:12]
        face = lambda: Face(self.spec.name, params, tags, self._dataset())  # noqa: E731
        return Shown(STUDY, STUDY, self.search.began, face=face, version=version)

    def _trial(self, record: TrialRecord, trainings: Sequence[TrialRecord]) -> Shown:
        """As it was shown last, if nothing has changed since: there may be thousands, looked at each second."""
        before = self._last.get(record.number)
        if before is not None and before[0] is record and not trainings:
            return before[1]
        once = [_costs(record, self._errors(record)), *self._means(trainings)] if record.ended else []
        face = lambda: self._face("trial", record.number, TrialSpec.from_flat(record.params))  # noqa: E731
        shown = self._training(record, str(record.number), STUDY, face, once, _order(record))
        self._last[record.number] = record, shown
        return shown

    def _seed(self, number: int, record: TrialRecord) -> Shown:
        def face() -> Face:
            spec = TrialSpec.from_flat(record.params)
            name = _name(number, spec)
            tags = {"search.seed": str(record.seed), "search.finalist": name}
            return self._face("seed", number, spec, f"{name} seed {record.seed}", tags, finals=True)

        once = [_costs(record)] if record.ended else []
        return self._training(record, f"{number}.{record.seed}", str(number), face, once)

    def _training(
        self,
        record: TrialRecord,
        key: str,
        parent: str,
        face: Callable[[], Face],
        once: list[tuple[int, Metrics]],
        tags: Mapping[str, str] | None = None,
    ) -> Shown:
        why = {"search.reason": record.reason, "search.traceback": record.traceback}
        return Shown(
            key,
            key,
            record.began,
            parent,
            face,
            epochs=record.metrics,
            once=once,
            state=record.state.value,
            tags={name: text for name, text in why.items() if text} | dict(tags or {}),
            files=(self.where(record.weights),) if record.weights else (),
            ended=record.ended and record.began + _ms(record.seconds),
        )

    def _rows(
        self, numbers: Mapping[str, int], trainings: Mapping[int, list[TrialRecord]], conclusion: Conclusion | None
    ) -> Iterator[Shown]:
        """What a study compares, also rows that it no longer has. They end when the study does."""
        shape, classes = self.info.shape, len(self.info.classes)
        rows = {numbers[r.trial.digest]: r for r in self.spec.rows(shape, classes) if r.trial.digest in numbers}
        over = conclusion is not None and conclusion.state != RUNNING
        for number in sorted(rows.keys() | trainings.keys()):
            own = sorted(trainings.get(number, ()), key=lambda record: record.seed)
            ends = [record.ended for record in own if record.ended is not None]
            ended = over and own and len(ends) == len(own)
            trained = sum(record.seconds or 0.0 for record in own)
            first, tested = next(iter(own), None), any(record.test for record in own)
            state = TrialState.COMPLETE if tested or first is None else first.state
            reason = first.reason if first is not None and ended else None
            row = rows.get(number)
            spec = row.trial if row else TrialSpec.from_flat(own[0].params)
            name = f"{number:03d} {row.label}" if row else _name(number, spec)
            yield Shown(
                str(number),
                str(number),
                self.search.began,
                STUDY,
                lambda number=number, spec=spec, name=name: self._face("trial", number, spec, name),
                once=[*([_costs(first)] if first and ended else []), *self._means(own)],
                state=state.value if ended else RUNNING,
                tags={"search.reason": reason} if reason else {},
                ended=self.search.began + _ms(trained) if ended else None,
            )

    def _conclusion(self, study: Shown, said: Conclusion) -> Shown:
        running = said.state == RUNNING
        return Shown(
            STUDY,
            CONCLUSION,
            study.began,
            version=study.version,  # begun anew, it is concluded anew
            once=sorted(said.metrics.items()),
            state=said.state,
            tags={} if running else {NOTE: said.note},
            files=[] if running else [self.where(file) for file in said.files],
            ended=None if running else said.time_ms,
            conclusion=said,
        )

    def _face(
        self,
        kind: str,
        number: int,
        spec: TrialSpec,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        finals: bool = False,
    ) -> Face:
        own = {"search.study": self.spec.name, "search.kind": kind, "search.trial": str(number)}
        own |= {"search.spec_digest": spec.digest, **(tags or {}), **self._provenance()}
        text, values = spec.model_dump_json(indent=2), spec.flat()
        logs = {f"{LOG}{path}": f"{log10(float(values[path])):.4g}" for path in self._on_log if path in values}
        return Face(name or _name(number, spec), spec.mlflow_params() | logs, own, self._dataset(finals), text)

    @cached_property
    def _on_log(self) -> list[str]:
        return on_log(self.spec.flat())

    def _provenance(self) -> dict[str, str]:
        """Tags that say what runs the study."""
        return {PROVENANCE[name]: text for name, text in self.search.provenance.items()}

    def _dataset(self, finals: bool = False) -> Dataset:
        """What trials are trained on, or finalists: train and validation together."""
        info = self.info
        splits = {"train": info.n_train, "validation": info.n_validation}
        trained = {"train + validation": sum(splits.values())} if finals else splits
        profile = {**trained, "test": info.n_test, "shape": " x ".join(map(str, info.shape))}
        name = info.name.rpartition(":")[0] or info.name
        name, context = (f"{name} finals", "train + validation") if finals else (name, "training")
        return Dataset(name, info.digest[:32], info.name, profile, context)

    def _means(self, trainings: Sequence[TrialRecord]) -> Iterator[tuple[int, Metrics]]:
        """Number of seeds -> what the trainings of a finalist gave together after so many."""
        errors: list[float] = []
        latest = 0
        for record in sorted(trainings, key=lambda record: record.seed):
            if record.ended is None:
                return
            latest = max(latest, record.ended)
            if record.test_error is not None:
                errors.append(record.test_error)
                yield len(errors), Metrics(latest, tested(errors, self.info.n_test, record.measure))

    def _errors(self, record: TrialRecord) -> dict[str, float]:
        """Validation errors of a trial that is over, to sort and read tables by."""
        name = self.spec.search.objectives[0].value
        last = (
            {f"{LAST}{name}": round(record.measured, DIGITS)} if record.ranked and record.measured is not None else {}
        )
        return {f"{LEAST}{name}": min(record.curve.values()), **last} if record.curve else {}

    def where(self, file: str) -> str:
        """Path or URL of a file of the study."""
        return file if is_url(file) else f"{self.place}/{file}"


def tested(errors: Sequence[float], images: int, measure: str) -> dict[str, float]:
    """Metrics of a finalist in percent, by the errors of its trainings on so many images; with a spread from two on.

    `measure`: which errors they are, as of `TrialRecord`.
    """
    name = f"test/{measure}"
    metrics = {f"{name}_mean": sum(errors) / len(errors)}
    interval = mean_error_interval(errors, LEVEL, 100 / images)
    if interval is not None:
        metrics |= {f"{name}_std": stdev(errors), f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {name: round(error, DIGITS) for name, error in metrics.items()} | {"test/seeds": float(len(errors))}


def _name(number: int, spec: TrialSpec) -> str:
    net = spec.net
    return f"{number:03d} depth {net.depth} {net.version.value} {net.shortcut.value}"


def _order(record: TrialRecord) -> dict[str, str]:
    """The tag by whose text trials stand as in the report: complete before pruned, then by error, MACs and number."""
    if not record.ranked:
        return {}
    return {ORDER: f"{record.state.value} {record.measured:011.7f} {record.macs or 0:015d} {record.number:06d}"}


def _ms(seconds: float | None) -> int:
    return round(1000 * (seconds or 0.0))


def _costs(record: TrialRecord, more: Mapping[str, float] | None = None) -> tuple[int, Metrics]:
    """What is measured once, of a training that is over."""
    values = {"cost/params": float(record.params_count or 0), "cost/macs": float(record.macs or 0)}
    timed = {} if record.latency_ms is None else {"cost/latency_ms": record.latency_ms}
    return 0, Metrics(record.ended or 0, {**values, **timed, **(more or {})})
