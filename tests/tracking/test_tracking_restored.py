"""A database of MLflow that has lost what it was sent, and runs that its user has deleted."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.errors import InputError
from search.records import TrialState
from search.tracking import Store, Tracker, events
from search.tracking.client import connect
from search.tracking.outbox import Outbox
from search.tracking.state import is_behind
from tests.support.empty_database import place
from tests.support.mlflow_server import Server

pytest_plugins = ["tests.support.fixtures_mlflow"]

EXPERIMENT, KEY = "resnet-search", "digits-ab12"
START = 1_700_000_000_000  # ms
TABLES = {
    "runs": "SELECT run_uuid, name, status, end_time, lifecycle_stage FROM runs",
    "metrics": "SELECT run_uuid, key, step, timestamp, value FROM metrics",
    "params": "SELECT run_uuid, key, value FROM params",
}


class Study:
    """Two trials of three epochs, the first with a training in the finals, written to the store at `uri`."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri, self.database = folder, uri, folder / "mlflow.db"

    @property
    def store(self) -> Store:
        return Store(self.uri, EXPERIMENT, str(self.folder / "files"))

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.folder / "digits" / "outbox.jsonl")

    def connect(self, write: Callable[[Tracker], None] = lambda tracker: None) -> Tracker:
        tracker = Tracker(self.outbox, self.store, KEY)
        write(tracker)
        assert tracker.drain(60) == 0
        tracker.close()
        return tracker

    def behind(self, study_too: bool = False) -> bool:
        return is_behind(self.outbox, self.store, KEY, study_too)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as database:
            return sorted(database.execute(TABLES[table]))

    def named(self) -> dict[str, tuple[str, str]]:
        """Of the runs that are not deleted: name -> id and status."""
        return {name: (run, status) for run, name, status, _, stage in self.rows("runs") if stage == "active"}


def restore(copy: Path, database: Path) -> None:
    """Puts a copy in the place of a database that this process has open: by SQLite, which then reads its pages anew."""
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(database)) as target:
        source.backup(target)


def first_half(tracker: Tracker) -> None:
    tracker.record(events.StudyStarted(name="digits", params={"trials": "2"}, time_ms=START))
    tracker.record(events.TrialStarted(number=0, name="t0", params={"net.depth": "8"}, time_ms=START + 1))
    tracker.record(
        events.EpochEnded(number=0, epoch=1, metrics={"val/error": 5.0, "train/loss": float("inf")}, time_ms=START + 2)
    )


def second_half(tracker: Tracker) -> None:
    for epoch in (2, 3):
        tracker.record(
            events.EpochEnded(
                number=0, epoch=epoch, metrics={"val/error": 5.0, "train/loss": 1.0}, time_ms=START + 1 + epoch
            )
        )
    tracker.record(
        events.TrialEnded(number=0, state=TrialState.COMPLETE, metrics={"cost/params": 10.0}, time_ms=START + 5)
    )
    tracker.record(events.TrialStarted(number=1, name="t1", params={"net.depth": "14"}, time_ms=START + 6))
    tracker.record(events.TrialEnded(number=1, state=TrialState.INFEASIBLE, time_ms=START + 7))
    tracker.record(events.TrialStarted(number=0, name="s0", params={"net.depth": "8"}, time_ms=START + 8, seed=0))
    tracker.record(events.EpochEnded(number=0, epoch=1, metrics={"train/loss": 2.0}, time_ms=START + 9, seed=0))
    tracker.record(
        events.TrialEnded(number=0, state=TrialState.COMPLETE, metrics={"test/error": 4.0}, time_ms=START + 10, seed=0)
    )
    tracker.record(events.FinalistSummed(number=0, seeds=1, metrics={"test/error_mean": 4.0}))
    tracker.record(
        events.StudyEnded(note="# Done", metrics={"trials/complete": 1.0}, step=3, time_ms=START + 11, state="complete")
    )


WHOLE = {"digits": "FINISHED", "t0": "FINISHED", "t1": "FAILED", "s0": "FINISHED"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Complete and sent; beside it copies of the database: `empty.db`, `half.db` and `whole.db`."""
    folder = tmp_path_factory.mktemp("restored")
    study = Study(folder, f"sqlite:///{folder}/mlflow.db")
    place(study.database)
    shutil.copy(study.database, folder / "empty.db")
    study.connect(first_half)
    shutil.copy(study.database, folder / "half.db")
    study.connect(second_half)
    shutil.copy(study.database, folder / "whole.db")
    shutil.copytree(folder / "digits", folder / "kept")
    return study


@pytest.fixture
def study(made: Study) -> Study:
    """As it was made. The file of the database stays one: MLflow keeps it open."""
    restore(made.folder / "whole.db", made.database)
    shutil.copytree(made.folder / "kept", made.folder / "digits", dirs_exist_ok=True)
    assert {name: status for name, (_, status) in made.named().items()} == WHOLE
    assert not made.behind()
    return made


def test_a_database_restored_from_an_older_copy_gets_what_it_lacks(study: Study) -> None:
    tables = {table: study.rows(table) for table in TABLES}
    kept = study.named()
    restore(study.folder / "half.db", study.database)
    assert {name: status for name, (_, status) in study.named().items()} == {"digits": "RUNNING", "t0": "RUNNING"}
    assert study.behind()
    study.connect()
    assert {name: status for name, (_, status) in study.named().items()} == WHOLE
    assert {name: study.named()[name] for name in ("digits", "t0")} == {name: kept[name] for name in ("digits", "t0")}
    for table, before in tables.items():
        assert [row[1:] for row in sorted(study.rows(table), key=lambda row: row[1:])] == sorted(
            row[1:] for row in before
        )
    assert not study.behind()


@pytest.mark.parametrize(
    "lost",
    [
        "DELETE FROM latest_metrics WHERE key = 'val/error'; DELETE FROM metrics WHERE key = 'val/error' AND step = 3; "
        "INSERT INTO latest_metrics SELECT key, value, timestamp, step, is_nan, run_uuid FROM metrics "
        "WHERE key = 'val/error' AND step = 2",
        "DELETE FROM latest_metrics WHERE key = 'test/error_mean'; DELETE FROM metrics WHERE key = 'test/error_mean'",
        "UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE name = 's0'",
        "UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE name = 'digits'",
    ],
    ids=["an epoch", "a finalist's mean", "the end of a seed", "the end of the study"],
)
def test_the_least_that_a_copy_lacks_is_found(study: Study, lost: str) -> None:
    whole = {table: study.rows(table) for table in TABLES}
    with closing(sqlite3.connect(study.database)) as database:
        database.executescript(lost)
    assert {table: study.rows(table) for table in TABLES} != whole
    assert study.behind()
    study.connect()
    assert {table: study.rows(table) for table in TABLES} == whole


def test_an_empty_database_is_filled_again(study: Study) -> None:
    metrics = [row[1:] for row in study.rows("metrics")]
    restore(study.folder / "empty.db", study.database)
    assert study.behind()
    study.connect()
    assert {name: status for name, (_, status) in study.named().items()} == WHOLE
    assert sorted(row[1:] for row in study.rows("metrics")) == sorted(metrics)
    assert not study.behind()


def test_a_run_that_its_user_has_deleted_stays_so(study: Study) -> None:
    """Also where the rest is sent again, and where the study goes on with it."""
    client = connect(study.uri)
    deleted = study.named()["t0"][0]
    client.delete_run(deleted)
    assert not study.behind()
    study.outbox.rewind("elsewhere")
    study.connect()

    def go_on(tracker: Tracker) -> None:
        tracker.record(events.EpochEnded(number=0, epoch=4, metrics={"val/error": 4.0}))
        tracker.record(events.FinalistSummed(number=0, seeds=2, metrics={"test/error_mean": 3.0}))
        tracker.record(events.TrialStarted(number=0, name="s1", params={}, seed=1))
        tracker.record(events.TrialEnded(number=0, state=TrialState.COMPLETE, seed=1))
        tracker.record(
            events.StudyEnded(note="# More", front=(0, 1), metrics={"trials/complete": 2.0}, step=4, state="complete")
        )

    again = study.connect(go_on)
    assert study.named().keys() == {"digits", "t1", "s0", "s1"}
    assert [run for run, name, *_ in study.rows("runs") if name == "t0"] == [deleted] == [again.run_ids()[0]]
    assert {step for run, key, step, *_ in study.rows("metrics") if (run, key) == (deleted, "val/error")} == {1, 2, 3}
    assert not study.behind()


def test_a_run_that_is_deleted_while_its_study_is_sent(study: Study) -> None:
    client = connect(study.uri)

    def go_on(tracker: Tracker) -> None:
        assert tracker.drain(60) == 0
        client.delete_run(study.named()["t1"][0])
        tracker.record(events.TrialStarted(number=1, name="t1", params={}))
        tracker.record(events.EpochEnded(number=1, epoch=1, metrics={"val/error": 4.0}))
        tracker.record(events.EpochEnded(number=0, epoch=4, metrics={"val/error": 3.0}))

    study.connect(go_on)
    assert study.named().keys() == {"digits", "t0", "s0"}
    assert 4 in {step for _, key, step, *_ in study.rows("metrics") if key == "val/error"}


def test_a_study_that_its_user_has_deleted_comes_back_when_it_is_asked_for(study: Study) -> None:
    client = connect(study.uri)
    for run, _ in study.named().values():
        client.delete_run(run)
    assert not study.behind()
    assert study.behind(study_too=True)
    study.connect()
    assert {name: status for name, (_, status) in study.named().items()} == WHOLE


def test_a_deleted_experiment_is_refused_as_on_a_server(study: Study) -> None:
    client = connect(study.uri)
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    with pytest.raises(InputError, match=r"MLflow experiment 'resnet-search' has been deleted on .*; restore it there"):
        study.store.check()
    Store(study.uri, "another").check()


@pytest.mark.slow
def test_a_server_whose_database_was_restored(mlflow_server: Server, tmp_path: Path) -> None:
    """Its database is a file of the server's, which nobody here reads: by MLflow's interface."""
    study = Study(tmp_path, mlflow_server.url)
    study.database = mlflow_server.folder / "server.db"
    study.connect(first_half)
    mlflow_server.kill()
    shutil.copy(study.database, tmp_path / "half.db")
    mlflow_server.start()
    study.connect(second_half)
    assert not study.behind()
    before = {table: [row[1:] for row in study.rows(table)] for table in TABLES}
    mlflow_server.kill()
    assert not study.behind()  # that it is away says nothing
    shutil.copy(tmp_path / "half.db", study.database)
    mlflow_server.start()
    assert study.behind()
    study.connect()
    for table, rows in before.items():
        assert sorted(row[1:] for row in study.rows(table)) == sorted(rows)
    connect(study.uri).delete_run(study.named()["t1"][0])
    assert not study.behind()
