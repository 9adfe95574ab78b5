"""MLflow's SQLite file, made whole or not at all."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)  # where MLflow keeps the places of artifacts


def ready(uri: str, client_type: "type[MlflowClient]") -> None:
    """Makes the SQLite file at `uri` unless it is there and whole; does nothing for other stores.

    MLflow makes its tables in dozens of steps, none of which it can repeat: a process that was killed meanwhile would
    leave a file that never opens again. So it makes them in another file, which then takes its name. One that was left
    half made by others, and holds no run, is set aside as `*.damaged`.

    Raises:
        OSError, sqlite3.Error, MlflowException: the file cannot be written.
    """
    if not uri.startswith(SQLITE):
        return
    path = file_of(uri)
    with FileLock(path.with_name(f".{path.name}.lock")):  # of a process that dies, the system takes it
        if _used(path):
            return
        for left in path.parent.glob(f".{path.name}.new-*"):
            left.unlink()
        fresh = path.with_name(f".{path.name}.new-{uuid.uuid4().hex}")  # MLflow remembers each that it has opened
        client_type(f"{SQLITE}{fresh}").search_experiments(max_results=1)
        if _empty(path):
            fresh.replace(path)
        elif _version(path) != _version(fresh):
            path.rename(path.with_name(f"{path.name}.damaged"))
            fresh.replace(path)
        else:
            fresh.unlink()


def follow(uri: str, root: str | None) -> None:
    """Where the SQLite file and the artifacts in `root` beside it were moved together: notes their new place in it.

    MLflow keeps absolute paths, would find no artifact again, and would make the old folders anew for new ones.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    if root is None or not uri.startswith(SQLITE):
        return
    path, artifacts = file_of(uri).absolute(), Path(root)
    if artifacts.parent != path.parent or not artifacts.is_dir() or _empty(path):
        return
    new = artifacts.as_uri()
    with closing(sqlite3.connect(path)) as database, database:
        for (old,) in database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall():
            there = Path(unquote(urlsplit(old).path))
            if old == new or not old.startswith("file://") or there.name != artifacts.name or there.exists():
                continue
            for table, column in _PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


def file_of(uri: str) -> Path:
    """The file that a SQLite URI names."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def _used(path: Path) -> bool:
    """Whether there is a run in it: then it was whole once."""
    return not _empty(path) and bool(_ask(path, "SELECT count(*) FROM runs", 0))


def _empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _version(path: Path) -> str:
    """Of its tables: where it differs from that of a new file, their making was not finished."""
    return str(_ask(path, "SELECT version_num FROM alembic_version", ""))


def _ask(path: Path, query: str, otherwise: object) -> object:
    with closing(sqlite3.connect(path)) as database:
        try:
            row = database.execute(query).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            row = None
    return row[0] if row else otherwise
