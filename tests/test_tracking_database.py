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

from search.tracking_client import import_quietly
from search.tracking_database import ready

ROOT = Path(__file__).parents[1]
MAKE = """
import sys
from search.tracking_client import import_quietly
from search.tracking_database import ready
client_type = import_quietly()
print("begins", flush=True)
ready(sys.argv[1], client_type)
"""


def usable(path: Path) -> bool:
    """Whether MLflow opens it: by a name that it has not heard, for it remembers what it has opened."""
    copy = path.with_name(f"copy-{time.monotonic_ns()}.db")
    shutil.copy(path, copy)
    try:
        return bool(import_quietly()(f"sqlite:///{copy}").search_experiments())
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
    ready(uri, import_quietly())
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
    ready(uri, import_quietly())
    assert usable(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '97727af70f4d'")  # of 2023: later tables are there
        database.commit()
    assert not usable(path)
    ready(uri, import_quietly())
    assert usable(path)
    assert count(tmp_path / "mlflow.db.damaged") > 30


def test_one_in_use_stays(tmp_path: Path) -> None:
    """With a run in it, or without but whole."""
    path = tmp_path / "mlflow.db"
    uri = f"sqlite:///{path}"
    ready(uri, import_quietly())
    before = path.stat().st_ino
    ready(uri, import_quietly())
    assert path.stat().st_ino == before
    run_in(path)
    ready(uri, import_quietly())
    assert path.stat().st_ino == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]
