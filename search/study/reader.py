"""A study as its records hold it at one moment. It is only read: nothing is locked, sent, changed or copied."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import optuna
from optuna.storages import BaseStorage

from search.errors import InputError
from search.optimize import copied, importance, make_scheduler, plan_finals
from search.records import (
    Course,
    Environment,
    Finals,
    Ledger,
    Spent,
    Start,
    StoredStudy,
    StudySummary,
    Trials,
    answering,
    open_storage,
    read_journal,
)
from search.spec import Space, StudySpec
from search.storage import Output, layout, replica
from search.study.latencies import Latencies
from search.tracking import Cursor
from search.training import Predictions


@dataclass(frozen=True)
class Reader:
    """A study that has begun, at the moment of `at`."""

    spec: StudySpec
    environment: Environment
    storage: BaseStorage  # of a journal a copy in memory
    study: optuna.Study  # its search
    cursor: Cursor  # what MLflow has of it

    @classmethod
    def at(cls, output: Output, name: str, spec: StudySpec) -> Self | None:
        """Reads the study in the folder `name`; None for one that has not begun.

        Raises:
            InputError: its storage cannot be opened, or is damaged.
            Halted: the URL, or the storage, does not answer.
        """
        place, url = output.place(name), spec.search.storage
        with answering(url):
            if url is None:
                path = Path(layout.JOURNAL) if output.url else Path(place) / layout.JOURNAL
                storage = read_journal(path, replica.journal(place))
            else:
                storage = open_storage(Path(), url)
            study = StoredStudy(storage, spec.name).search
            around = Environment.of(study) if study else None
            if study is None or around is None:
                if replica.read(place, layout.OUTBOX) is not None:
                    raise InputError(layout.older(place))
                return None
            return cls(spec, around, storage, study, Cursor.parse(replica.read(place, Cursor.FILE)))

    @cached_property
    def records(self) -> Trials:
        """Its trials by number, refused proposals among them."""
        return Trials.of(self.study).with_runs(self.cursor.trials)

    @cached_property
    def finals(self) -> Finals | None:
        """What its finals have found so far; None where there are none, or none yet."""
        return self._finals[0]

    @cached_property
    def summary(self) -> StudySummary:
        """What the report says of it as a whole."""
        height, width, channels = self.environment.data["shape"]
        space = self.spec.make_space((height, width, channels), len(self.environment.data["classes"]))
        (finals, spent), course = self._finals, self._course
        why = self.records.stop_reason(self.spec.search, course)
        summary = summarise(self.spec, space, self.environment, course.spent + spent, why, finals)
        missing = self.study.user_attrs.get(Ledger.WEIGHTS, {}).get("missing")
        timed = Latencies.of(self.study.user_attrs.get(Ledger.LATENCIES, {}), self.spec)
        gain = self.records.expected_gain(course.spent.seconds, course.exhausted)
        starts, latency = Start.of(self.study), timed.described(self.spec)
        return replace(summary, starts=starts, missing_weights=missing, gain=gain, latency=latency)

    @cached_property
    def importance(self) -> dict[str, float]:
        """How much each searched value matters for the error."""
        return importance(self.study, self.summary.first_rung)

    @cached_property
    def _course(self) -> Course:
        return Course.of(self.study)

    @cached_property
    def _finals(self) -> tuple[Finals | None, Spent]:
        """With what they took."""
        sent, asked = self.cursor, self.spec.search
        searched = bool(self.spec.compare) or self.records.is_complete(asked, self._course)
        ledger = copied(self.storage, self.study.study_name) if searched else None
        if ledger is None:
            return None, Spent()
        plan = plan_finals(self.spec, ledger, self.records, self.environment.data, self._course.spent)
        return plan.results(sent.trials, sent.seeds), ledger.spent


def predictions(place: str, finals: Finals | None) -> Predictions | None:
    """What the champion's exported network says of the test images, of a study at this path or URL; None without one.

    Raises:
        Halted: the URL does not answer.
    """
    run = None if finals is None else finals.champion_run
    return None if run is None else Predictions.of_training(f"{place}/finals/{run:04d}")


def summarise(
    spec: StudySpec, space: Space, around: Environment, spent: Spent, why: str | None, finals: Finals | None
) -> StudySummary:
    """The study as the report shows it.

    Args:
        spec: as it was asked for.
        space: of `spec`.
        around: on what it ran.
        spent: on search and finals, over all starts.
        why: there are fewer trials than were asked for.
        finals: None where there are none, or none yet.
    """
    search = spec.search
    return StudySummary(
        name=spec.name,
        description=spec.description,
        data=around.data,
        space={d.path: d.describe() for d in space.dimensions},
        epochs=spec.epochs,
        first_rung=make_scheduler(search, spec.epochs).first_compared,
        trials=0 if spec.compare else search.trials,
        sampler=search.sampler.value,
        scheduler=search.scheduler.value,
        seed=search.seed,
        elapsed_seconds=spent.seconds,
        spent=spent,
        hardware=around.hardware,
        versions=around.versions,
        objectives=search.objectives,
        limits=spec.limits.model_dump(exclude_none=True, exclude_defaults=True),
        stopped=why,
        finals=finals,
        finals_asked=spec.finals.top > 0 or bool(spec.compare),
        holds=around.holds,
        finals_hold=around.finals_hold,
    )
