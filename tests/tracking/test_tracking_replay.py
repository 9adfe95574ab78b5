"""Any prefix of any sequence of events, written twice, leaves MLflow as writing it once does."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.records import TrialState
from search.tracking.client import connect
from search.tracking.events import Dataset, EpochEnded, Event, StudyEnded, StudyStarted, TrialEnded, TrialStarted
from search.tracking.runs import RunWriter

DATA = Dataset(name="digits", digest="5f2c", source="scikit-learn")
Write = Callable[[list[list[Event]]], list[tuple[Any, ...]]]


@st.composite
def studies(draw: st.DrawFn) -> list[Event]:
    """A study of up to three trials that run at the same time, each with any end or none, cut off anywhere."""
    trials = [_trial(draw, number) for number in range(draw(st.integers(1, 3)))]
    events: list[Event] = [StudyStarted(time_ms=1, name="digits", params={"trials": "3"}, dataset=DATA)]
    while any(trials):
        events.append(draw(st.sampled_from([trial for trial in trials if trial])).pop(0))
    state, front = draw(st.sampled_from(["complete", "interrupted"])), draw(st.sets(st.just(0)))
    events.append(StudyEnded(time_ms=99, state=state, note="# Done", front=tuple(front)))
    return events[: draw(st.integers(1, len(events)))]


def _trial(draw: st.DrawFn, number: int) -> list[Event]:
    losses = st.one_of(st.floats(0, 10), st.just(float("nan")), st.just(float("inf")))
    params = {"net.depth": str(draw(st.sampled_from([8, 20])))}
    events: list[Event] = [TrialStarted(time_ms=2, number=number, name=f"trial-{number}", params=params, dataset=DATA)]
    events += [
        EpochEnded(time_ms=10 + epoch, number=number, epoch=epoch, metrics={"val/loss": draw(losses)})
        for epoch in range(1, draw(st.integers(0, 3)) + 1)
    ]
    ends = [state for state in TrialState if state is not TrialState.RUNNING]
    end = TrialEnded(time_ms=50, number=number, state=draw(st.sampled_from(ends)), metrics={"best/val_error": 5.0})
    return [*events, end] if draw(st.booleans()) else events


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes lists of events one after another, each by a writer that knows of no run, into a new experiment."""
    folder = tmp_path_factory.mktemp("replay")
    client = connect(f"sqlite:///{folder}/mlflow.db")
    names = count()

    def write_all(parts: list[list[Event]]) -> list[tuple[Any, ...]]:
        experiment = client.create_experiment(f"e{next(names)}", f"{folder}/files")
        for events in parts:
            RunWriter(client, experiment, "digits-ab12", {}, set(), lambda call: call()).write(events)
        return stored(folder / "mlflow.db", experiment)

    return write_all


def stored(database: Path, experiment: str) -> list[tuple[Any, ...]]:
    """All that the experiment's runs consist of, by MLflow's own tables, with names in place of run ids."""
    queries = [
        "SELECT name, status, start_time, end_time, lifecycle_stage FROM runs WHERE experiment_id = ?",
        "SELECT name, p.key, p.value FROM params p JOIN runs USING (run_uuid) WHERE experiment_id = ?",
        "SELECT r.name, t.key, coalesce(parent.name, t.value) FROM tags t JOIN runs r USING (run_uuid) "
        "LEFT JOIN runs parent ON parent.run_uuid = t.value WHERE r.experiment_id = ?",
        "SELECT name, m.key, m.step, m.timestamp, m.value, m.is_nan FROM metrics m JOIN runs USING (run_uuid) "
        "WHERE experiment_id = ?",
        "SELECT r.name, d.name, d.digest FROM inputs i JOIN runs r ON r.run_uuid = i.destination_id "
        "JOIN datasets d ON d.dataset_uuid = i.source_id WHERE r.experiment_id = ?",
    ]
    with closing(sqlite3.connect(database)) as connection:
        return [row for query in queries for row in sorted(connection.execute(query, [experiment]), key=repr)]


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(studies())
def test_twice_is_once(write: Write, events: list[Event]) -> None:
    once = write([events])
    assert len([row for row in once if row[0] == "digits" and len(row) == 5]) == 1  # there is something to compare
    assert write([events, events]) == once
    assert write([events[: len(events) // 2], events]) == once
    assert write([[event] for event in events[:1]] + [events]) == once


@settings(max_examples=5, deadline=None, derandomize=True)
@given(studies())
def test_stored_rows_are_the_events(write: Write, events: list[Event]) -> None:
    rows = write([events])
    started = {event.name for event in events if isinstance(event, StudyStarted | TrialStarted)}
    assert {row[0] for row in rows} == started
    points = sorted((f"trial-{e.number}", e.epoch, e.time_ms) for e in events if isinstance(e, EpochEnded))
    assert sorted((row[0], row[2], row[3]) for row in rows if len(row) == 6 and row[1] == "val/loss") == points


def test_the_front_moves(write: Write) -> None:
    """Trials that left the front are marked as such; the next end of the study that names no front clears it."""
    start: list[Event] = [StudyStarted(time_ms=1, name="digits", params={}, dataset=DATA)]
    start += [TrialStarted(time_ms=2, number=n, name=f"trial-{n}", params={}, dataset=DATA) for n in range(3)]
    fronts: list[tuple[int, ...]] = [(0, 1, 7), (1, 2), ()]  # 7 has no run: it was taken over from another study
    ends: list[list[Event]] = [[StudyEnded(time_ms=9, state="complete", note="", front=front)] for front in fronts]
    for count_, marks in enumerate(({0: True, 1: True}, {0: False, 1: True, 2: True}, {0: False, 1: False, 2: False})):
        rows = write([start + [event for end in ends[: count_ + 1] for event in end]])
        found = {row[0]: row[2] for row in rows if row[1] == "search.pareto"}
        assert found == {f"trial-{number}": str(mark).lower() for number, mark in marks.items()}
