"""MLflow's SQLite file, of a process that may be killed while it is made."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from search.tracking import Store
from search.tracking.client import connect, ready
from search.tracking.store import follow
from tests.support.empty_database import place

ROOT = Path(__file__).parents[2]
MAKE = """
import sys
from search.tracking.client import ready
print("begins", flush=True)
ready(sys.argv[1])
"""
USE = """
import sys
from pathlib import Path
from search.tracking.client import connect
client = connect(sys.argv[1])
client.log_artifact(*sys.argv[2:])
print(Path(client.download_artifacts(sys.argv[2], "note.txt")).read_text(), end="")
"""


def usable(path: Path) -> bool:
    """Whether MLflow opens it: by a name that it has not heard, for it remembers what it has opened."""
    copy = path.with_name(f"copy-{time.monotonic_ns()}.db")
    shutil.copy(path, copy)
    try:
        return bool(connect(f"sqlite:///{copy}").search_experiments())
    except (MlflowException, OperationalError):
        return False
    finally:
        copy.unlink()


def run_in(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO runs (run_uuid, experiment_id) VALUES ('1', 0)")
        database.commit()


@pytest.mark.slow
def test_killed_while_it_is_made(tmp_path: Path) -> None:
    """After 5 tables and after 25, as seen in whatever file they are being made."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for tables in (5, 25):
        with subprocess.Popen([sys.executable, "-c", MAKE, uri], cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begins\n"
            while process.poll() is None and max(map(count, tmp_path.iterdir()), default=0) < tables:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "mlflow.db").exists() or count(tmp_path / "mlflow.db") > 30
    ready(uri)
    assert usable(tmp_path / "mlflow.db")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]


def count(file: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    except sqlite3.DatabaseError:  # locked, gone, or another kind of file
        return 0


def test_one_that_others_left_half_made_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    uri = f"sqlite:///{path}"
    ready(uri)
    assert usable(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '97727af70f4d'")  # of 2023: later tables are there
        database.commit()
    assert not usable(path)
    ready(uri)
    assert usable(path)
    assert count(tmp_path / "mlflow.db.damaged") > 30


def test_one_in_use_stays(tmp_path: Path) -> None:
    """With a run in it, or without but whole."""
    path = tmp_path / "mlflow.db"
    uri = f"sqlite:///{path}"
    ready(uri)
    before = path.stat().st_ino
    ready(uri)
    assert path.stat().st_ino == before
    run_in(path)
    ready(uri)
    assert path.stat().st_ino == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]


def test_artifacts_that_were_moved_with_it(tmp_path: Path) -> None:
    """Runs, models and versions are found where they are now, and nothing is written where they were."""
    here, there = tmp_path / "a 1%_b" / "results", tmp_path / "there"
    place(here / "mlflow.db")
    for folder in (here, tmp_path / "other"):
        (folder / "mlartifacts").mkdir(parents=True)
    (here / "note.txt").write_text("kept")
    client = connect(f"sqlite:///{here / 'mlflow.db'}")
    experiment = client.create_experiment("search", (here / "mlartifacts").as_uri())
    elsewhere = client.create_experiment("elsewhere", (tmp_path / "other" / "mlartifacts").as_uri())
    run = client.create_run(experiment).info
    client.log_artifact(run.run_id, str(here / "note.txt"))
    model = client.create_logged_model(experiment, "champion", run.run_id)
    client.create_registered_model("tiny")
    client.create_model_version("tiny", f"{run.artifact_uri}/champion", run.run_id)
    follow(Store(f"sqlite:///{here / 'mlflow.db'}", "search", str(here / "mlartifacts")))
    assert client.get_run(run.run_id).info.artifact_uri == run.artifact_uri, "nothing was moved"
    here.rename(there)

    uri, root = f"sqlite:///{there / 'mlflow.db'}", there / "mlartifacts"
    follow(Store(uri, "search", str(root)))
    moved = connect(uri)
    (there / "more.txt").write_text("more")
    uses = [sys.executable, "-c", USE, uri, run.run_id, str(there / "more.txt")]  # here, MLflow remembers the run's
    used = subprocess.run(uses, cwd=ROOT, capture_output=True, text=True, check=False)
    assert used.stdout == "kept", used.stderr
    assert (root / run.run_id / "artifacts" / "more.txt").read_text() == "more"
    assert not here.exists()
    assert moved.get_experiment(experiment).artifact_location == root.as_uri()
    assert moved.get_logged_model(model.model_id).artifact_location.startswith(f"{root.as_uri()}/")
    assert moved.get_model_version("tiny", "1").source == f"{root.as_uri()}/{run.run_id}/artifacts/champion"
    assert moved.get_experiment(elsewhere).artifact_location == (tmp_path / "other" / "mlartifacts").as_uri()
