"""Where tracking goes: an experiment of a tracking server, or of the SQLite file of a plain run."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from search.errors import InputError, public, without_credentials
from search.storage import Output
from search.tracking.cursor import Cursor

ANSWER_SECONDS = 4  # how long a store may take to answer the first question
SQLITE = "sqlite:///"
REMEDY = "correct --tracking-uri (or MLFLOW_TRACKING_URI), or leave it out to keep runs in a file below --output"
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)  # where MLflow keeps the places of artifacts


# What a server answers when it is overloaded, restarting, or behind a proxy that cannot reach or authorise us: worth
# trying again. A database file answers only the first two so; there the others are faults of the program.
_BUSY = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_SERVER_AWAY = _BUSY | {
    *("INTERNAL_ERROR", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED", "ENDPOINT_NOT_FOUND"),
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"),
}


@dataclass(frozen=True)
class Store:
    """An experiment of MLflow's. `str` names it without credentials."""

    uri: str
    experiment: str
    root: str | None = None  # the folder in which a new experiment keeps its artifacts; None leaves it to the server

    @classmethod
    def chosen(cls, uri: str | None, experiment: str, output: Output) -> "Store":
        """The one at `uri`, or in the SQLite file that holds all studies below `output`.

        Raises:
            InputError: studies are kept at a URL, and no tracking server is named.
        """
        if output.url and not is_remote(uri or ""):
            raise InputError(
                f"output = {str(output)!r} is a URL, below which no database can be; name an MLflow server with "
                "--tracking-uri (or MLFLOW_TRACKING_URI)"
            )
        folder = output.path.absolute()
        where = uri or f"{SQLITE}{folder / 'mlflow.db'}"
        return cls(where, experiment, None if is_remote(where) else str(folder / "mlartifacts"))

    def __str__(self) -> str:
        return f"{public(self.uri)} {self.experiment}"

    @property
    def remote(self) -> bool:
        """Whether a tracking server, rather than this process, writes to the database."""
        return is_remote(self.uri)

    def has_tracked(self, folder: Path) -> bool:
        """Whether a study in this folder has been sent here."""
        return Cursor.at(folder / Cursor.FILE).store == str(self)

    def check(self) -> None:
        """Asks for the experiment, which need not exist; a server must let us write in it.

        Raises:
            InputError: it is no store, or refuses us.
            NoAnswer: after seconds of silence.
        """
        if self.remote:
            from search.tracking import client  # noqa: PLC0415  MLflow takes seconds, and a file is read without

            client.check(self)
        elif urlsplit(self.uri).scheme == "sqlite":
            _check_file(self)
        else:
            known = "http://, https:// or sqlite:///"
            raise refusal(self.uri, f"is not an address of an MLflow store, which begins with {known}")

    def deleted(self) -> InputError:
        """The experiment has been deleted."""
        return InputError(
            f"MLflow experiment {self.experiment!r} has been deleted on {public(self.uri)}; restore it there, or "
            "name another with MLFLOW_EXPERIMENT_NAME."
        )


class NoAnswer(InputError):  # noqa: N818 - as HTTP clients call it
    """A tracking server that is away, or was given by a wrong address."""


def refusal(uri: str, fault: str, remedy: str = REMEDY, kind: type[InputError] = InputError) -> InputError:
    """Of the store at `uri`, in a sentence without credentials."""
    return kind(f"tracking URI {public(uri)!r} {without_credentials(fault, uri)}; {remedy}.")


def is_remote(uri: str) -> bool:
    """Whether it is the address of a tracking server."""
    return urlsplit(uri).scheme in {"http", "https"}


def is_transient(error: Exception, remote: bool) -> bool:
    """Whether the same call may succeed later: the server is away, busy or locked, the disk full."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  there already where it has raised one
    from requests import HTTPError  # noqa: PLC0415  with it

    if isinstance(error, MlflowException):
        return error.error_code in (_SERVER_AWAY if remote else _BUSY)
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in {401, 403, 429}
    missing = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
    return isinstance(error, OSError) and not isinstance(error, missing)  # includes every connection error


def _check_file(store: Store) -> None:
    uri = store.uri
    path = file_of(uri)
    if not uri.startswith(SQLITE) or path.name in {"", ":memory:"}:
        raise refusal(uri, "names no file", f"write {SQLITE} and a path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=ANSWER_SECONDS, isolation_level=None)) as database:
            database.execute("PRAGMA schema_version")  # reads the file's header
            database.execute("BEGIN IMMEDIATE")  # takes the right to write
            database.execute("ROLLBACK")
        stage = _ask(path, "SELECT lifecycle_stage FROM experiments WHERE name = ?", "", store.experiment)
    except (OSError, sqlite3.Error) as error:
        raise refusal(uri, f"cannot be written: {getattr(error, 'strerror', None) or error}") from error
    if stage == "deleted":
        raise store.deleted()


def follow(store: Store) -> None:
    """Where the SQLite file and the artifacts beside it were moved together: notes their new place in it.

    MLflow keeps absolute paths, would find no artifact again, and would make the old folders anew for new ones.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    if store.root is None or not store.uri.startswith(SQLITE):
        return
    path, artifacts = file_of(store.uri).absolute(), Path(store.root)
    if artifacts.parent != path.parent or not artifacts.is_dir() or is_empty(path):
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


def is_used(path: Path) -> bool:
    """Whether there is a run in it: then it was whole once."""
    return not is_empty(path) and bool(_ask(path, "SELECT count(*) FROM runs", 0))


def is_empty(path: Path) -> bool:
    """Whether there is no file, or nothing in it."""
    return not path.exists() or path.stat().st_size == 0


def version(path: Path) -> str:
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
