"""What MLflow has of a study's runs, beside what the outbox says it was sent: a store may be older than the outbox."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from search.tracking.events import (
    RUN_STATUS,
    STUDY,
    STUDY_STATUS,
    ChampionChosen,
    EpochEnded,
    Event,
    FinalistSummed,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    label,
)
from search.tracking.outbox import Outbox
from search.tracking.store import SQLITE, Store, file_of, is_transient

_LOCK_SECONDS = 4.0  # how long a file that another process writes is waited for
_RUNS = """
SELECT r.run_uuid, t.value, r.status, r.lifecycle_stage, m.key, m.step
FROM runs r JOIN experiments e USING (experiment_id) JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'search.key'
LEFT JOIN latest_metrics m ON m.run_uuid = r.run_uuid
WHERE e.name = ?1 AND substr(t.value, 1, length(?2)) = ?2
"""


@dataclass
class RunState:
    """Of a run: how far it is."""

    name: str  # among the study's: "study", or `outbox.run_key`
    status: str = "RUNNING"
    deleted: bool = False
    steps: dict[str, int] = field(default_factory=dict)  # metric -> the last of its steps


def sent(outbox: Outbox) -> dict[str, RunState]:
    """The runs by name, as the events before the outbox's cursor leave them."""
    runs: dict[str, RunState] = {}
    for event, end in outbox.events():
        if end > outbox.cursor.offset:
            break
        _follow(runs, event)
    return runs


def stored(store: Store, study_key: str) -> dict[str, RunState]:
    """The study's runs in an experiment by their ids, also those that were deleted there.

    Raises:
        MlflowException, OSError: the store does not answer.
    """
    study = label(study_key)
    if store.uri.startswith(SQLITE):
        return _named(_in_file(file_of(store.uri), store.experiment, study), study)
    return _named(_on_server(store, study), study)


def _in_file(path: Path, experiment: str, study: str) -> dict[str, RunState]:
    """Read without MLflow, whose import takes longer than all else at the start of a complete study."""
    states: dict[str, RunState] = {}
    if not path.exists():
        return states
    with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as database:
        try:
            rows = database.execute(_RUNS, [experiment, f"{study}/"]).fetchall()
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


def deleted_runs(states: Mapping[str, RunState]) -> dict[str, str]:
    """Of a study's runs those that a user has deleted in MLflow: name -> id."""
    active = {state.name for state in states.values() if not state.deleted}  # a double is deleted, and its twin stays
    return {state.name: run for run, state in states.items() if state.deleted and state.name not in active}


def lacks(states: Mapping[str, RunState], runs: Mapping[str, str], expected: Mapping[str, RunState]) -> bool:
    """Whether a store lacks something that it was sent; what a user has deleted there is not missing.

    Args:
        states: of the store's runs, by id.
        runs: name -> id, as they were sent.
        expected: of those runs, by name.
    """
    return any(run not in states or _behind(states[run], expected.get(name)) for name, run in runs.items())


def is_behind(outbox: Outbox, store: Store, study_key: str, study_too: bool) -> bool:
    """Whether the store lacks something that the outbox's cursor says was sent.

    A store that does not answer now is not behind: it is asked again at the next start.

    Args:
        outbox: not being sent at the moment.
        store: where it was sent.
        study_key: of the study.
        study_too: whether a study's run that a user has deleted is missing, too.
    """
    try:
        states = stored(store, study_key)
    except Exception as error:
        if not is_transient(error, store.remote):
            raise
        return False
    gone = study_too and STUDY in deleted_runs(states)
    return gone or lacks(states, outbox.cursor.runs, sent(outbox))


def _follow(runs: dict[str, RunState], event: Event) -> None:
    if isinstance(event, ChampionChosen):
        return  # a version in the registry belongs to whoever manages it there
    name = STUDY if isinstance(event, StudyStarted | StudyEnded) else event.run
    run = runs.setdefault(name, RunState(name))
    match event:
        case StudyStarted() | TrialStarted():
            run.status = "RUNNING"
        case EpochEnded():
            _reach(run, event.metrics, event.epoch)
        case FinalistSummed():
            _reach(run, event.metrics, event.seeds)
        case TrialEnded():
            _reach(run, event.metrics, event.step)
            run.status = RUN_STATUS[event.state]
        case StudyEnded():
            _reach(run, event.metrics, event.step)
            run.status = STUDY_STATUS[event.state]


def _reach(run: RunState, metrics: Iterable[str], step: int) -> None:
    run.steps.update({metric: max(step, run.steps.get(metric, step)) for metric in metrics})


def _behind(state: RunState, expected: RunState | None) -> bool:
    if expected is None or state.deleted:
        return False
    ended = expected.status != "RUNNING" and state.status != expected.status
    return ended or any(state.steps.get(metric, -1) < step for metric, step in expected.steps.items())


def _named(states: dict[str, RunState], study: str) -> dict[str, RunState]:
    """The study's alone (in LIKE, _ stands for any letter), with their names in place of their keys."""
    kept: dict[str, RunState] = {}
    for run, state in states.items():
        of, _, name = state.name.rpartition("/")
        if of == study:
            state.name = name
            kept[run] = state
    return kept
