"""What MLflow has of a study's runs: its database may be older than what it was sent."""

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from search.tracking.store import Store, file_of

_LOCK_SECONDS = 4.0  # how long a file that another process writes is waited for
_RUNS = """
SELECT r.run_uuid, t.value, r.status, r.lifecycle_stage, m.key, m.step
FROM runs r JOIN experiments e USING (experiment_id) JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'search.key'
LEFT JOIN latest_metrics m ON m.run_uuid = r.run_uuid
WHERE e.name = ?1 AND substr(t.value, 1, length(?2)) = ?2
"""


@dataclass
class RunState:
    """How far a run is."""

    key: str  # among the study's
    status: str = "RUNNING"
    deleted: bool = False
    steps: dict[str, int] = field(default_factory=dict[str, int])  # metric -> the last of its steps


def label(study_key: str) -> str:
    """The study's key as it stands in tags, and in quotes in a search filter."""
    return re.sub(r"[^\w./:@+ -]", "_", study_key)


def stored(store: Store, study_key: str) -> dict[str, RunState]:
    """The study's runs in an experiment by their ids, also those that were deleted there.

    Raises:
        MlflowException, OSError: the store does not answer.
    """
    study = label(study_key)
    states = _on_server(store, study) if store.remote else _in_file(store, study)
    own: dict[str, RunState] = {}
    for run, state in states.items():
        of, _, state.key = state.key.rpartition("/")
        if of == study:  # in LIKE, _ stands for any letter
            own[run] = state
    return own


def active_runs(states: Mapping[str, RunState]) -> dict[str, str]:
    """Of a study's runs those that are not deleted: key -> id; of doubles the one with the least id."""
    return {states[run].key: run for run in sorted(states, reverse=True) if not states[run].deleted}


def deleted_runs(states: Mapping[str, RunState]) -> dict[str, str]:
    """Of a study's runs those that a user has deleted in MLflow: key -> id."""
    active = {state.key for state in states.values() if not state.deleted}  # a double is deleted, and its twin stays
    return {state.key: run for run, state in states.items() if state.deleted and state.key not in active}


def _in_file(store: Store, study: str) -> dict[str, RunState]:
    """Read without MLflow, whose import takes longer than all else at the start of a complete study."""
    states, path = dict[str, RunState](), file_of(store.uri)
    if not path.exists():
        return states
    with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as database:
        try:
            rows = database.execute(_RUNS, [store.experiment, f"{study}/"]).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # a new file, in which MLflow has not made its tables
                return states
            raise BlockingIOError(f"{path}: {error}") from error
    for run_id, key, status, stage, metric, step in rows:
        state = states.setdefault(run_id, RunState(key, status, stage == "deleted"))
        if metric is not None:
            state.steps[metric] = step
    return states


def _on_server(store: Store, study: str) -> dict[str, RunState]:
    from search.tracking import client  # noqa: PLC0415  MLflow takes seconds, and a file is read without

    service = client.connect(store.uri)
    experiment = service.get_experiment_by_name(store.experiment)
    if experiment is None:
        return {}
    condition = f"tags.`search.key` LIKE '{study}/%'"
    return {
        run.info.run_id: RunState(
            run.data.tags["search.key"],
            run.info.status,
            run.info.lifecycle_stage == "deleted",
            {metric.key: metric.step for metric in run.to_proto().data.metrics},
        )
        for run in client.find_runs(service, experiment.experiment_id, condition, client.ViewType.ALL)
    }
