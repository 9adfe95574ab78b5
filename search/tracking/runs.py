"""What is to be shown, as MLflow calls, each of which may be made any number of times with the effect of once."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from mlflow import MlflowClient, entities
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from search.errors import without_credentials
from search.records import Metrics
from search.storage import is_url, local_copy
from search.tracking.client import PARAM_LENGTH, TAG_LENGTH, find_runs, user
from search.tracking.cursor import STUDY, Mark
from search.tracking.registry import register
from search.tracking.shown import NOTE, RUNNING, STATUS, Dataset, Face, Shown, Source
from search.tracking.stored import label
from search.tracking.views import views

T = TypeVar("T")

PARETO = "search.pareto"  # the tag of trials that no other beats in every objective
# In one log_batch call MLflow takes 100 params, 100 tags, 1000 of all, and a million characters: hence half of each.
PAIRS_PER_CALL, METRICS_PER_CALL = 50, 500


@dataclass(frozen=True)
class RunWriter:
    """Writes one study into its MLflow runs."""

    client: MlflowClient
    experiment_id: str
    source: Source
    runs: dict[str, str]  # key -> id of all runs that the server has of the study; it is added to
    deleted: Mapping[str, str]  # those of them that a user has deleted in MLflow: nothing is written to them
    attempt: Callable[[Callable[[], Any]], Any]  # makes each call on the server, until it succeeds or raises

    @property
    def study_key(self) -> str:
        """What the tags `search.key` of its runs begin with."""
        return label(self.source.search.key)

    def write(self, shown: Shown, sent: Mark | None) -> None:
        """Writes what is not yet `sent` of a run."""
        run, params = None, dict[str, str]()
        face = shown.face() if shown.face and (sent is None or sent.face != shown.version) else None
        ends = face is not None or sent is None or sent.end != shown.mark.end
        tags = _tags({"search.state": shown.state, **shown.tags}) if ends else {}
        if face is not None:
            parent = {"mlflow.parentRunId": self.runs[shown.parent]} if shown.parent else {}
            tags |= _tags({**face.tags, **parent})
            run = self._run(shown, face.name, tags)
            known = run.data.params if shown.run == STUDY else {}
            params = {key: without_credentials(value)[:PARAM_LENGTH] for key, value in face.params.items()}
            # MLflow never changes a param, but a study may be continued with more trials: the new value becomes a tag.
            changed = {key for key, value in params.items() if known.get(key, value) != value}
            tags = {key: value for key, value in tags.items() if run.data.tags.get(key) != value}
            tags |= {f"search.now.{key}": params.pop(key) for key in changed}
        new = {epoch: at for epoch, at in shown.epochs.items() if sent is None or epoch > sent.epoch}
        metrics = [metric for epoch, at in new.items() for metric in _metrics(at, epoch)]
        if shown.conclusion is not None and shown.state != RUNNING:
            self._conclude(shown)
        if ends:
            metrics += [metric for step, at in shown.once for metric in _metrics(at, step)]
        self._log(self.runs[shown.run], metrics, params, tags)
        if face is not None and run is not None:
            self._log_face(run, shown, face)
        if ends:
            self._end(self.runs[shown.run], shown, run)

    def _run(self, shown: Shown, name: str, tags: Mapping[str, str]) -> Run:
        """A run: known, or created, unless an attempt to create it has arrived that was given up."""
        again = False

        def find_or_create() -> Run:
            nonlocal again
            if shown.run in self.runs:
                return self.client.get_run(self.runs[shown.run])
            key = f"{self.study_key}/{shown.run}"
            found = find_runs(self.client, self.experiment_id, f"tags.`search.key` = '{key}'") if again else []
            again = True
            if found:
                return min(found, key=lambda run: (run.info.start_time, run.info.run_id))
            source = {"mlflow.source.name": "python -m search.run", "mlflow.source.type": "LOCAL"}
            every = {**tags, **source, "mlflow.user": user(), "search.key": key}
            return self.client.create_run(self.experiment_id, shown.began, every, name)

        run: Run = self.attempt(find_or_create)
        self.runs[shown.run] = run.info.run_id
        return run

    def _log_face(self, run: Run, shown: Shown, face: Face) -> None:
        self._log_dataset(run.info.run_id, face.dataset)
        if face.spec is not None:
            self.attempt(lambda: self._log_text(run, face.spec or "", "trial.json"))
        if shown.run == STUDY:
            for name, view in views(run.info.run_id, self.study_key, face.params).items():
                self.attempt(lambda tag=(name, view): self.client.set_experiment_tag(self.experiment_id, *tag))

    def _log_text(self, run: Run, text: str, name: str) -> None:
        """As the client does, which would first ask the store for the run: a third of what a trial takes."""
        artifacts = get_artifact_repository(str(run.info.artifact_uri), self.client.tracking_uri)
        with TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_text(text, encoding="utf-8")
            artifacts.log_artifact(str(file))

    def _end(self, run_id: str, shown: Shown, run: Run | None) -> None:
        for file in shown.files:
            if is_url(file) or Path(file).exists():
                with local_copy(file) as path:
                    self.attempt(lambda path=path: self.client.log_artifact(run_id, path))
        if shown.state != RUNNING:
            self.attempt(lambda: self.client.set_terminated(run_id, STATUS[shown.state], shown.ended))
        elif run is None or run.info.status != "RUNNING":  # it goes on after it had ended
            self.attempt(lambda: self.client.update_run(run_id, status="RUNNING"))

    def _conclude(self, shown: Shown) -> None:
        """What the end of a study says of other runs, and of its champion."""
        said = shown.conclusion
        assert said is not None
        self._delete_doubles()
        self._mark_front(said.front)
        if said.champion is not None:
            key, place = f"{said.champion.number}.{said.champion.seed}", self.source.where(said.champion.place)
            runs = {key: run for key, run in self.runs.items() if key not in self.deleted}
            above = [runs[one] for one in (str(said.champion.number), STUDY) if one in runs]
            self.attempt(lambda: register(self.client, self.experiment_id, runs.get(key), place, above))

    def _mark_front(self, numbers: Sequence[int]) -> None:
        """Tag the runs on the Pareto front, and those that no longer are on it."""
        front = {self.runs[key] for key in map(str, numbers) if key in self.runs and key not in self.deleted}
        before = {run.info.run_id for run in self._own() if run.data.tags.get(PARETO) == "true"}
        for run_id in sorted(before - front):
            self._log(run_id, tags={PARETO: "false"})
        for run_id in sorted(front - before):
            self._log(run_id, tags={PARETO: "true"})

    def _delete_doubles(self) -> None:
        """Delete runs that a hanging server created after the request for them had been given up and repeated."""
        for run in self._own():
            key = run.data.tags["search.key"].rpartition("/")[2]
            if key in self.runs and run.info.run_id != self.runs[key]:
                self.attempt(lambda run_id=run.info.run_id: self.client.delete_run(run_id))

    def _own(self) -> list[Run]:
        condition = f"tags.`search.key` LIKE '{self.study_key}/%'"
        found = self.attempt(lambda: find_runs(self.client, self.experiment_id, condition))
        # in LIKE, _ stands for any letter
        return [run for run in found if run.data.tags["search.key"].rpartition("/")[0] == self.study_key]

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        points = _parts(metrics, METRICS_PER_CALL)
        settings = [Param(key, value) for key, value in (params or {}).items()]
        labels = [RunTag(key, value) for key, value in _tags(tags or {}).items()]
        parts = zip_longest(points, _parts(settings, PAIRS_PER_CALL), _parts(labels, PAIRS_PER_CALL), fillvalue=())
        for part in parts:
            self.attempt(lambda part=part: self.client.log_batch(run_id, *part))

    def _log_dataset(self, run_id: str, dataset: Dataset) -> None:
        source, profile = json.dumps({"uri": dataset.source}), json.dumps(dataset.profile)
        logged = entities.Dataset(dataset.name, dataset.digest, "local", source, profile=profile)
        context = [entities.InputTag("mlflow.data.context", dataset.context)]
        self.attempt(lambda: self.client.log_inputs(run_id, [entities.DatasetInput(logged, context)]))


def _metrics(metrics: Metrics, step: int) -> list[Metric]:
    """Infinity becomes NaN: MLflow's store would make it 1.8e308, which flattens every chart it appears in."""
    return [
        Metric(name, value if math.isfinite(value) else math.nan, metrics.time_ms, step)
        for name, value in metrics.values.items()
    ]


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """As MLflow takes them."""
    return {key: _tag(key, without_credentials(text)) for key, text in tags.items()}


def _tag(key: str, text: str) -> str:
    if len(text) <= TAG_LENGTH or key != NOTE:
        return text[:TAG_LENGTH]
    more = "\n\n(The rest is in report.md among the artifacts.)"
    return text[: text.rfind("\n", 0, TAG_LENGTH - len(more))] + more
