"""How MLflow is reached: imported quietly, without leaking credentials, its SQLite file whole or not there."""

import getpass
import logging
import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient


PARAM_LENGTH, TAG_LENGTH = 6000, 8000  # characters; MLflow refuses or cuts longer values
KIND = "mlflow.experimentKind", "custom_model_development"  # MLflow's pages open on language models otherwise

# What a server answers when it is overloaded, restarting, or behind a proxy that cannot reach or authorise us: worth
# trying again. A database file answers only the first two so; there the others are faults of the program.
_BUSY = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_SERVER_AWAY = _BUSY | {
    *("INTERNAL_ERROR", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED", "ENDPOINT_NOT_FOUND"),
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"),
}


def import_quietly() -> "type[MlflowClient]":
    """MLflow's client, imported without telemetry, progress bars and log lines, and leaving retries to its caller."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # seconds
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # every error reaches us as an exception
    return MlflowClient


def is_remote(uri: str) -> bool:
    """Whether a tracking server, rather than this process, writes to the database."""
    return urlsplit(uri).scheme in {"http", "https"}


def user() -> str:
    """Who a run is said to be of: the name on the server, or else on this machine."""
    known = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if known:
        return known
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


def is_transient(error: Exception, remote: bool) -> bool:
    """Whether the same call may succeed later: the server is away, busy or locked, the disk full."""
    from mlflow.exceptions import MlflowException
    from requests import HTTPError

    if isinstance(error, MlflowException):
        return error.error_code in (_SERVER_AWAY if remote else _BUSY)
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in {401, 403, 429}
    missing = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
    return isinstance(error, OSError) and not isinstance(error, missing)  # includes every connection error


def find_or_create(client: "MlflowClient", experiment: str, artifact_root: str | None) -> str:
    """The id of the experiment with this name; a new one keeps its artifacts in the folder `artifact_root`, or, where
    that is None, where the server decides."""
    from mlflow.exceptions import MlflowException

    root = None if artifact_root is None else Path(artifact_root).absolute().as_uri()
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        return found.experiment_id
    try:
        return client.create_experiment(experiment, root, dict([KIND]))
    except MlflowException as error:
        found = client.get_experiment_by_name(experiment)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
            raise
    return found.experiment_id  # another study was first


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


def experiment_stage(path: Path, experiment: str) -> str:
    """ "active" or "deleted"; empty where there is no such experiment."""
    return str(_ask(path, "SELECT lifecycle_stage FROM experiments WHERE name = ?", "", experiment))


def _used(path: Path) -> bool:
    """Whether there is a run in it: then it was whole once."""
    return not _empty(path) and bool(_ask(path, "SELECT count(*) FROM runs", 0))


def _empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _version(path: Path) -> str:
    """Of its tables: where it differs from that of a new file, their making was not finished."""
    return str(_ask(path, "SELECT version_num FROM alembic_version", ""))


def _ask(path: Path, query: str, otherwise: object, *values: str) -> object:
    with closing(sqlite3.connect(path)) as database:
        try:
            row = database.execute(query, values).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            row = None
    return row[0] if row else otherwise
