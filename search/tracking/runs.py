"""Tracking events as MLflow calls, each of which may be made any number of times: the same events, the same runs."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import zip_longest
from typing import Any, TypeVar

from mlflow import MlflowClient, entities
from mlflow.entities import Metric, Param, Run, RunTag

from search.storage import local_copy
from search.tracking.client import PARAM_LENGTH, TAG_LENGTH, find_runs, user
from search.tracking.events import (
    RUN_STATUS,
    STUDY,
    STUDY_STATUS,
    ChampionChosen,
    Dataset,
    EpochEnded,
    Event,
    FinalistSummed,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    label,
)
from search.tracking.registry import crown
from search.tracking.views import views

T = TypeVar("T")

PARETO = "search.pareto"  # the tag of trials that no other beats in every objective
# In one log_batch call MLflow takes 100 params, 100 tags, 1000 of all, and a million characters: hence half of each.
PAIRS_PER_CALL, METRICS_PER_CALL = 50, 500


class RunWriter:
    """Writes one study's events into its MLflow runs.

    `runs` maps "study" and trial numbers to run ids already known; it is added to. Those that are named in `deleted` a
    user has deleted in MLflow: nothing is written to them. Every call on the server goes through `attempt`, which
    repeats it until it succeeds or raises.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        study_key: str,
        runs: dict[str, str],
        deleted: Set[str],
        attempt: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.study_key = label(study_key)
        self.runs = runs
        self.deleted = deleted
        self._attempt = attempt

    def write(self, events: Iterable[Event]) -> None:
        """Write events in their order; the epochs of a trial that follow one another go in one call."""
        epochs: dict[str, list[Metric]] = {}
        for event in events:
            if isinstance(event, TrialStarted | EpochEnded | TrialEnded | FinalistSummed) and event.run in self.deleted:
                continue
            if isinstance(event, EpochEnded):
                epochs.setdefault(event.run, []).extend(_metrics(event.metrics, event.time_ms, event.epoch))
            elif isinstance(event, TrialEnded):
                self._log(self.runs[event.run], metrics=epochs.pop(event.run, []))
                self._end_trial(event)
            else:
                self._write_rare(event)
        for run, metrics in epochs.items():
            self._log(self.runs[run], metrics=metrics)

    def _write_rare(self, event: StudyStarted | TrialStarted | FinalistSummed | ChampionChosen | StudyEnded) -> None:
        match event:
            case StudyStarted():
                self._start_study(event)
            case TrialStarted():
                self._start_trial(event)
            case FinalistSummed():
                self._log(self.runs[event.run], metrics=_metrics(event.metrics, event.time_ms, event.seeds))
            case ChampionChosen():
                run = None if event.run in self.deleted else self.runs[event.run]
                self._attempt(lambda: crown(self.client, self.experiment_id, run, event.folder))
            case StudyEnded():
                self._end_study(event)

    def _start_study(self, event: StudyStarted) -> None:
        run = self._run(STUDY, event.name, event.time_ms, {})
        known = run.data.params
        # MLflow never changes a param, but a study may be continued with more trials: the new value becomes a tag.
        changed = {f"search.now.{key}": value for key, value in event.params.items() if known.get(key, value) != value}
        params = {key: value for key, value in event.params.items() if key not in known}
        tags = {"search.study": event.name, "search.kind": "study", "search.state": "running"}
        self._log(run.info.run_id, params=params, tags=event.tags | tags | changed)
        self._log_dataset(run.info.run_id, event.dataset)
        for name, shown in views(run.info.run_id, self.study_key, event.params).items():
            self._attempt(lambda tag=(name, shown): self.client.set_experiment_tag(self.experiment_id, *tag))
        self._set_running(run)

    def _start_trial(self, event: TrialStarted) -> None:
        above = STUDY if event.seed is None else str(event.number)
        parent = {"mlflow.parentRunId": self.runs[above]}
        run = self._run(event.run, event.name, event.time_ms, parent)
        run_id = run.info.run_id
        kind = {"search.kind": "trial" if event.seed is None else "seed"}
        kind |= {} if event.seed is None else {"search.seed": str(event.seed)}
        tags = kind | {"search.trial": str(event.number), "search.state": "running"}
        self._log(run_id, params=event.params, tags=event.tags | tags | parent)
        self._log_dataset(run_id, event.dataset)
        if event.trial_json is not None:
            text = event.trial_json
            self._attempt(lambda: self.client.log_text(run_id, text, "trial.json"))
        self._set_running(run)

    def _set_running(self, run: Run) -> None:
        if run.info.status != "RUNNING":  # continued after it had ended
            self._attempt(lambda: self.client.update_run(run.info.run_id, status="RUNNING"))

    def _end_trial(self, event: TrialEnded) -> None:
        tags = event.tags | {"search.state": event.state.value}
        if event.reason is not None:
            tags["search.reason"] = event.reason
        run_id = self.runs[event.run]
        self._finish(run_id, event, tags, RUN_STATUS[event.state])

    def _end_study(self, event: StudyEnded) -> None:
        tags = event.tags | {"search.state": event.state, "mlflow.note.content": _cut_lines(event.note, TAG_LENGTH)}
        self._delete_doubles()
        self._mark_front(event.front)
        self._finish(self.runs[STUDY], event, tags, STUDY_STATUS[event.state])

    def _mark_front(self, numbers: Sequence[int]) -> None:
        """Tag the runs on the Pareto front, and those that no longer are on it."""
        shown = {str(number) for number in numbers} - self.deleted
        front = {self.runs[name] for name in shown if name in self.runs}  # else: not of this study
        marked = self._search(f"tags.`search.key` LIKE '{self.study_key}/%' AND tags.`{PARETO}` = 'true'")
        # In LIKE, _ stands for any letter.
        before = {r.info.run_id for r in marked if r.data.tags["search.key"].startswith(f"{self.study_key}/")}
        for run_id in sorted(before - front):
            self._log(run_id, tags={PARETO: "false"})
        for run_id in sorted(front - before):
            self._log(run_id, tags={PARETO: "true"})

    def _finish(self, run_id: str, event: TrialEnded | StudyEnded, tags: dict[str, str], status: str) -> None:
        self._log(run_id, metrics=_metrics(event.metrics, event.time_ms, event.step), tags=tags)
        for artifact in event.artifacts:
            with local_copy(artifact) as path:
                self._attempt(lambda path=path: self.client.log_artifact(run_id, path))
        self._attempt(lambda: self.client.set_terminated(run_id, status, event.time_ms))

    def _run(self, name: str, run_name: str, time_ms: int, tags: dict[str, str]) -> Run:
        """The run of the study or of a trial: known, found on the server by its key, or created."""

        def find_or_create() -> Run:
            if name in self.runs:
                return self.client.get_run(self.runs[name])
            key = f"{self.study_key}/{name}"
            found = find_runs(self.client, self.experiment_id, f"tags.`search.key` = '{key}'")
            if found:
                return min(found, key=lambda run: (run.info.start_time, run.info.run_id))
            source = {"mlflow.source.name": "python -m search.run", "mlflow.source.type": "LOCAL"}
            all_tags = tags | source | {"mlflow.user": user(), "search.key": key}
            return self.client.create_run(self.experiment_id, time_ms, all_tags, run_name)

        run: Run = self._attempt(find_or_create)
        self.runs[name] = run.info.run_id
        return run

    def _delete_doubles(self) -> None:
        """Delete runs that a hanging server created after the request for them had been given up and repeated."""
        for run in self._search(f"tags.`search.key` LIKE '{self.study_key}/%'"):
            study_key, _, name = run.data.tags["search.key"].rpartition("/")
            if study_key == self.study_key and name in self.runs and run.info.run_id != self.runs[name]:
                self._attempt(lambda run_id=run.info.run_id: self.client.delete_run(run_id))

    def _search(self, condition: str) -> list[Run]:
        return self._attempt(lambda: find_runs(self.client, self.experiment_id, condition))

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        points = _parts(list(metrics), METRICS_PER_CALL)
        settings = _parts([Param(key, value[:PARAM_LENGTH]) for key, value in (params or {}).items()], PAIRS_PER_CALL)
        labels = _parts([RunTag(key, value[:TAG_LENGTH]) for key, value in (tags or {}).items()], PAIRS_PER_CALL)
        for part in zip_longest(points, settings, labels, fillvalue=()):
            self._attempt(lambda part=part: self.client.log_batch(run_id, *part))

    def _log_dataset(self, run_id: str, dataset: Dataset | None) -> None:
        if dataset is None:
            return
        source, profile = json.dumps({"uri": dataset.source}), json.dumps(dataset.profile)
        logged = entities.Dataset(dataset.name, dataset.digest, "local", source, profile=profile)
        context = [entities.InputTag("mlflow.data.context", dataset.context)]
        self._attempt(lambda: self.client.log_inputs(run_id, [entities.DatasetInput(logged, context)]))


def _metrics(values: dict[str, float], time_ms: int, step: int) -> list[Metric]:
    """Infinity becomes NaN: MLflow's store would make it 1.8e308, which flattens every chart it appears in."""
    return [Metric(k, v if math.isfinite(v) else math.nan, time_ms, step) for k, v in values.items()]


def _parts(values: list[T], size: int) -> Iterator[list[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _cut_lines(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    more = "\n\n(The rest is in report.md among the artifacts.)"
    return text[: text.rfind("\n", 0, length - len(more))] + more
