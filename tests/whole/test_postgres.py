"""A team's database: PostgreSQL holds the trials, and MLflow's runs, and is killed while they are written."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import get_storage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from search.errors import Halted, InputError
from search.records import answering, open_storage
from search.records.database import Database
from search.spec import Sampler, SearchSpec
from tests.support.mlflow_server import Server
from tests.support.postgres import PROGRAMS, Postgres
from tests.support.simulated import Setting, play
from tests.support.study_process import command, start, wait_until
from tests.support.whole import assert_all_there, report_of

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed (Debian: postgresql)")
STUDY = Setting(SearchSpec(sampler=Sampler.RANDOM, trials=6, first_rung=1, reduction=2, seed=5), epochs=3)
KILLS = 4  # of the server, and one of the driver


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    made = Postgres()
    made.start()
    yield made
    made.remove()


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as opened:
        return opened.execute(sql).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue] - not literal


def test_it_holds_the_same_study_as_a_journal(postgres: Postgres, tmp_path: Path) -> None:
    assert play(STUDY, open_storage(tmp_path / "unused", postgres.url())) == play(STUDY, tmp_path)


def test_what_is_written_waits_for_a_server_that_restarts(postgres: Postgres) -> None:
    storage, hasty = Database(postgres.url()), Database(postgres.url(), patience=0.5)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "mine")
    trial = storage.create_new_trial(study)
    postgres.kill()
    back = threading.Timer(1, postgres.start)
    back.start()
    storage.set_trial_intermediate_value(trial, 1, 7.5)
    back.join()
    assert storage.create_new_trial(study) != trial
    assert ask(postgres.url(), "select step, intermediate_value from trial_intermediate_values") == [(1, 7.5)]
    assert ask(postgres.url(), "select number from trials order by number") == [(0,), (1,)]
    postgres.kill()
    with pytest.raises(Halted, match="does not answer any more") as halted, answering(postgres.url()):
        hasty.set_study_user_attr(study, "late", 1)
    assert postgres.password not in str(halted.value)


def test_a_server_that_is_starting_is_waited_for(postgres: Postgres) -> None:
    postgres.kill()
    with pytest.raises(InputError, match="cannot be opened"):
        open_storage(Path("unused"), postgres.url())
    postgres.start_refusing()
    with pytest.raises(OperationalError, match="the database system is "):
        Database(postgres.url(), patience=0.0)
    later = threading.Timer(1, postgres.accept)
    later.start()
    Database(postgres.url()).create_new_study([StudyDirection.MINIMIZE], "mine")
    later.join()
    assert ask(postgres.url(), "select study_name from studies") == [("mine",)]


@pytest.mark.parametrize("repeated", ["create_new_trial", "set_trial_state_values"])
def test_what_was_done_is_not_done_again_when_its_answer_is_lost(
    repeated: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = get_storage(postgres.url())
    monkeypatch.setattr("search.records.database.get_storage", lambda url: inner)
    storage, do, lost = Database(postgres.url()), getattr(inner, repeated), list[object]()

    def once_unanswered(*given: Any) -> Any:
        answer = do(*given)
        if not lost:
            lost.append(answer)
            raise StorageInternalError("the connection broke")
        return answer

    monkeypatch.setattr(inner, repeated, once_unanswered)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "mine")
    trial = storage.create_new_trial(study)
    assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.5])
    assert lost
    assert ask(postgres.url(), "select number, state from trials") == [(0, "COMPLETE")]
    assert ask(postgres.url(), "select value from trial_values") == [(1.5,)]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_a_study_whose_database_and_driver_are_killed_is_whole(
    postgres: Postgres, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Killed after an epoch and at a random moment; the server is back a second later. Trials and runs share it."""
    with psycopg.connect(postgres.url(), autocommit=True) as opened:
        opened.execute("create database mlflow")
    server = Server(tmp_path / "server", database=postgres.url("mlflow"))
    server.folder.mkdir()
    server.start()
    kills = max(KILLS, request.config.getoption("--kills"))
    trials = 3 * kills
    instants, train = random.Random(0), {"epochs": 6, "batch_size": 8, "flip": False}
    shared = "--storage", postgres.url(), "--tracking-uri", server.url
    line = command(tmp_path, "--trials", str(trials), *shared, train=train)

    def epochs() -> int:
        if ask(postgres.url(), "select to_regclass('trial_intermediate_values')::text") == [(None,)]:
            return 0  # the tables are not made yet
        return ask(postgres.url(), "select count(*) from trial_intermediate_values")[0][0]

    try:
        process, log = start(tmp_path, line)
        for kill in range(kills):
            known = epochs()
            wait_until(lambda known=known: epochs() > known, process, log)
            time.sleep(instants.uniform(0, 1))
            if kill % KILLS == KILLS // 2:
                process.send_signal(signal.SIGKILL)
                process.wait()
                process, log = start(tmp_path, line)
            postgres.kill()
            time.sleep(1)
            postgres.start()
        assert process.wait(300) == 0, log.read_text()
        assert_all_there(report_of(tmp_path), trials, postgres.url("mlflow"), server.folder / "artifacts")
    finally:
        server.kill()
