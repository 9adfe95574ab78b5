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
from search.tracking import Cursor, Store
from search.tracking.client import connect
from tests.support.empty_database import place
from tests.support.mirrored import Study
from tests.support.mlflow_server import Server

pytest_plugins = ["tests.support.fixtures_mlflow"]

EXPERIMENT = "resnet-search"
TABLES = {
    "runs": "SELECT run_uuid, name, status, end_time, lifecycle_stage FROM runs",
    "metrics": "SELECT run_uuid, key, step, timestamp, value FROM metrics",
    "params": "SELECT run_uuid, key, value FROM params",
}


class Made:
    """A study of two trials, the first with a training in the finals, mirrored to the store at `uri`."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri, self.database = folder, uri, folder / "mlflow.db"

    @property
    def store(self) -> Store:
        return Store(self.uri, EXPERIMENT, str(self.folder / "files"))

    @property
    def study(self) -> Study:
        """As a process finds it that starts."""
        return Study(self.folder / "digits", self.store)

    def connect(self, write: Callable[[Study], None] = lambda study: None) -> Study:
        return self.study.sent(write)

    def behind(self, study_too: bool = False) -> bool:
        return self.study.mirror.behind(study_too)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as database:
            return sorted(database.execute(TABLES[table]))

    def named(self) -> dict[str, tuple[str, str]]:
        """Of the runs that are not deleted: key -> id and status."""
        return {names(name): (run, status) for run, name, status, _, stage in self.rows("runs") if stage == "active"}


def names(run_name: str) -> str:
    """`t0` for trial 0, `s0` for its training with seed 0."""
    number, _, seed = run_name.partition(" seed ")
    return run_name if run_name == "digits" else f"s{seed}" if seed else f"t{int(number[:3])}"


def restore(copy: Path, database: Path) -> None:
    """Puts a copy in the place of a database that this process has open: by SQLite, which then reads its pages anew."""
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(database)) as target:
        source.backup(target)


def first_half(study: Study) -> None:
    study.report(study.start(), 1, **{"train/loss": float("inf")})


def second_half(study: Study) -> None:
    study.report(0, 2)
    study.report(0, 3)
    study.search.finish(0, TrialState.COMPLETE)
    study.search.finish(study.start(14), TrialState.INFEASIBLE)
    study.seed(0, 0, 4.0)
    study.conclude()


HALF = {"digits": "RUNNING", "t0": "RUNNING"}
WHOLE = {"digits": "FINISHED", "t0": "FINISHED", "t1": "FAILED", "s0": "FINISHED"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Complete and sent; beside it copies of the database: `empty.db`, `half.db` and `whole.db`."""
    folder = tmp_path_factory.mktemp("restored")
    study = Made(folder, f"sqlite:///{folder}/mlflow.db")
    place(study.database)
    shutil.copy(study.database, folder / "empty.db")
    study.connect(first_half)
    shutil.copy(study.database, folder / "half.db")
    study.connect(second_half)
    shutil.copy(study.database, folder / "whole.db")
    shutil.copytree(folder / "digits", folder / "kept")
    return study


@pytest.fixture
def study(made: Made) -> Made:
    """As it was made. The file of the database stays one: MLflow keeps it open."""
    restore(made.folder / "whole.db", made.database)
    shutil.copytree(made.folder / "kept", made.folder / "digits", dirs_exist_ok=True)
    assert {name: status for name, (_, status) in made.named().items()} == WHOLE
    assert not made.behind()
    return made


@pytest.mark.parametrize("copy", ["half.db", "empty.db"])
def test_a_database_restored_from_an_older_copy_gets_what_it_lacks(study: Made, copy: str) -> None:
    """What is there stays; nothing is there twice."""
    tables = {table: sorted(row[1:] for row in study.rows(table)) for table in TABLES}
    restore(study.folder / copy, study.database)
    there = study.named()
    assert {name: status for name, (_, status) in there.items()} == (HALF if copy == "half.db" else {})
    assert study.behind()
    study.connect()
    assert {name: status for name, (_, status) in study.named().items()} == WHOLE
    assert {name: study.named()[name][0] for name in there} == {name: run for name, (run, _) in there.items()}
    assert {table: sorted(row[1:] for row in study.rows(table)) for table in TABLES} == tables
    assert not study.behind()


@pytest.mark.parametrize(
    "lost",
    [
        "DELETE FROM latest_metrics WHERE key = 'val/error'; DELETE FROM metrics WHERE key = 'val/error' AND step = 3; "
        "INSERT INTO latest_metrics SELECT key, value, timestamp, step, is_nan, run_uuid FROM metrics "
        "WHERE key = 'val/error' AND step = 2",
        "DELETE FROM latest_metrics WHERE key = 'test/error_mean'; DELETE FROM metrics WHERE key = 'test/error_mean'",
        "UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE name LIKE '%seed 0'",
        "UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE name = 'digits'",
    ],
    ids=["an epoch", "a finalist's mean", "the end of a seed", "the end of the study"],
)
def test_the_least_that_a_copy_lacks_is_found(study: Made, lost: str) -> None:
    whole = {table: study.rows(table) for table in TABLES}
    with closing(sqlite3.connect(study.database)) as database:
        database.executescript(lost)
    assert {table: study.rows(table) for table in TABLES} != whole
    assert study.behind()
    study.connect()
    assert {table: study.rows(table) for table in TABLES} == whole


def test_a_run_that_its_user_has_deleted_stays_so(study: Made) -> None:
    """Also where the rest is sent again, and where the study goes on with it."""
    client = connect(study.uri)
    deleted = study.named()["t0"][0]
    client.delete_run(deleted)
    assert not study.behind()
    (study.folder / "digits" / Cursor.FILE).unlink()
    study.connect()

    def go_on(records: Study) -> None:
        records.seed(0, 1, 3.0)
        records.conclude("# More", front=(0, 1))

    again = study.connect(go_on)
    assert study.named().keys() == {"digits", "t1", "s0", "s1"}
    assert [run for run, name, *_ in study.rows("runs") if names(name) == "t0"] == [deleted] == [again.cursor.trials[0]]
    assert {step for run, key, step, *_ in study.rows("metrics") if (run, key) == (deleted, "val/error")} == {1, 2, 3}
    assert not study.behind()


def test_a_run_that_is_deleted_while_its_study_is_sent(study: Made) -> None:
    client = connect(study.uri)

    def go_on(records: Study) -> None:
        number = records.start(20)
        assert records.mirror.drain(60) == 0
        client.delete_run(study.named()["t2"][0])
        records.report(number, 1)
        records.report(records.start(), 1)

    study.connect(go_on)
    assert study.named().keys() == {"digits", "t0", "t1", "s0", "t3"}
    new = study.named()["t3"][0]
    assert [(key, step) for run, key, step, *_ in study.rows("metrics") if run == new and "val" in key] == [
        ("val/error", 1)
    ]


def test_a_study_that_its_user_has_deleted_comes_back_when_it_is_asked_for(study: Made) -> None:
    client = connect(study.uri)
    for run, _ in study.named().values():
        client.delete_run(run)
    assert not study.behind()
    assert study.behind(study_too=True)
    study.connect()
    assert {name: status for name, (_, status) in study.named().items()} == WHOLE


def test_a_deleted_experiment_is_refused_as_on_a_server(study: Made) -> None:
    client = connect(study.uri)
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    with pytest.raises(InputError, match=r"MLflow experiment 'resnet-search' has been deleted on .*; restore it there"):
        study.store.check()
    Store(study.uri, "another").check()


@pytest.mark.slow
def test_a_server_whose_database_was_restored(mlflow_server: Server, tmp_path: Path) -> None:
    """Its database is a file of the server's, which nobody here reads: by MLflow's interface."""
    study = Made(tmp_path, mlflow_server.url)
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
        assert sorted((row[1:] for row in study.rows(table)), key=repr) == sorted(rows, key=repr)
    connect(study.uri).delete_run(study.study.cursor.trials[1])
    assert not study.behind()
