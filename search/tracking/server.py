"""Where tracking goes: the store of a plain run, the check that a store can be used, and how to look at it."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from search.errors import InputError, public, without_credentials
from search.storage import Output
from search.tracking import client
from search.tracking.client import KIND, SQLITE, file_of, find_or_create, import_quietly, is_remote, is_transient
from search.tracking.outbox import Cursor, of_seeds
from search.tracking.runs import STUDY
from search.tracking.views import SEEDS

if TYPE_CHECKING:
    from mlflow import MlflowClient


USUAL = "http://127.0.0.1:5000"  # where MLflow's pages of this machine are served by default
SHOWN = 100  # trials in a comparison, the best first; a longer address breaks in some browsers
ANSWER_SECONDS = 4  # how long a store may take to answer the first question


class NoAnswer(InputError):  # noqa: N818 - as HTTP clients call it
    """A tracking server that is away, or was given by a wrong address."""


_DATABASES = ("postgresql", "mysql", "mssql")
_CONNECTION_FAULTS = {
    "timed out": ("did not answer within {limit} seconds",),
    "timeout": ("did not answer within {limit} seconds",),
    "Connection refused": ("does not answer: no server listens there",),
    "resolve": ("does not answer: the name of its machine is unknown",),
    "CERTIFICATE_VERIFY_FAILED": (
        "has a certificate that is not trusted",
        "set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate of its authority",
    ),
    "SSL": ("does not speak TLS", "begin the address with http://"),
    "error responses": ("answers, but only with server errors",),
}
_NOT_ALLOWED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_REMEDY = "correct --tracking-uri (or MLFLOW_TRACKING_URI), or leave it out to keep runs in a file below --output"


def default_uri(output: Path) -> str:
    """The SQLite file that holds all studies below `output`."""
    return f"{SQLITE}{output.absolute() / 'mlflow.db'}"


def chosen(uri: str | None, output: Output) -> str:
    """The store at `uri`, or the default one.

    Raises:
        InputError: studies are kept at a URL, and no tracking server is named.
    """
    if output.url and not is_remote(uri or ""):
        raise InputError(
            f"output = {str(output)!r} is a URL, below which no database can be; name an MLflow server with "
            "--tracking-uri (or MLFLOW_TRACKING_URI)"
        )
    return uri or default_uri(output.path)


def artifact_root(uri: str, output: Path) -> str | None:
    """Where a new experiment keeps its files: below `output`, or None when a tracking server decides."""
    return None if is_remote(uri) else str(output.absolute() / "mlartifacts")


def store(uri: str, experiment: str) -> str:
    """Names the place where a study is tracked, without credentials."""
    return f"{public(uri)} {experiment}"


def check_reachable(uri: str, experiment: str) -> None:
    """Ask the store at `uri` for `experiment`, which need not exist; a server must let us write in it.

    Raises InputError when the store is none, or refuses us; NoAnswer after seconds of silence.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "sqlite":
        _check_sqlite(uri, experiment)
    elif is_remote(uri):
        _check_server(uri, experiment)
    elif scheme.partition("+")[0] in _DATABASES:
        _check_database(uri)
    else:
        known = "http://, https://, sqlite:///, postgresql:// or mysql://"
        raise _refusal(uri, f"is not an address of an MLflow store, which begins with {known}")


def view_url(base: str, experiment_id: str, view: str, charts: bool) -> str:
    """The page of a study's runs in one of `tracking_view.views`: as a table, or with the charts that compare them."""
    mode = {"compareRunsMode": "CHART"} if charts else {}
    return _page(base, f"experiments/{experiment_id}/runs", {"viewStateShareKey": view} | mode)


def compare_url(base: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """The page that compares runs: parallel coordinates, scatter and contour plots, params and metrics side by side."""
    return _page(base, "compare-runs", {"runs": json.dumps(list(run_ids)), "experiments": json.dumps([experiment_id])})


def pages_of(base: str, name: str, cursor: Cursor, runs: Sequence[str]) -> dict[str, str]:
    """What it is -> address, of the pages of the study `name` at `base`; the first compares its trials.

    Args:
        base: address of the server; of a database: where MLflow's pages on it are served by default.
        name: of the study.
        cursor: what MLflow has of it.
        runs: ids of its trials' runs, the best first.
    """
    study, experiment = cursor.runs.get(STUDY), cursor.experiment
    if study is None or not experiment or not runs:
        return {}
    base = base if is_remote(base) else USUAL
    pages = {
        f"{name}: parallel coordinates and learning curves": view_url(base, experiment, study, charts=True),
        "table of trials": view_url(base, experiment, study, charts=False),
        "trials side by side": compare_url(base, experiment, runs[:SHOWN]),
    }
    if of_seeds(cursor.runs):
        pages["finalists, mean over seeds"] = view_url(base, experiment, study + SEEDS, charts=True)
    return pages


def place(uri: str, run_id: str) -> tuple[str, str]:
    """Of a trial's run: the ids of its experiment, and of its study's run.

    Raises:
        InputError: the server does not answer, refuses us, or has no such run.
    """
    client = import_quietly()(uri)
    with _answering(uri):
        run = client.get_run(run_id)
    return run.info.experiment_id, run.data.tags["mlflow.parentRunId"]


def _page(base: str, path: str, query: dict[str, str]) -> str:
    view = {"workflowType": "machine_learning"}  # MLflow's pages open on language models otherwise
    return f"{public(base).rstrip('/')}/#/{path}?{urlencode(query | view, quote_via=quote)}"


def _refusal(uri: str, fault: str, remedy: str = _REMEDY, kind: type[InputError] = InputError) -> InputError:
    return kind(f"tracking URI {public(uri)!r} {without_credentials(fault, uri)}; {remedy}.")


def _check_sqlite(uri: str, experiment: str) -> None:
    path = file_of(uri)
    if not uri.startswith(SQLITE) or path.name in {"", ":memory:"}:
        raise _refusal(uri, "names no file", f"write {SQLITE} and a path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=ANSWER_SECONDS, isolation_level=None)) as database:
            database.execute("PRAGMA schema_version")  # reads the file's header
            database.execute("BEGIN IMMEDIATE")  # takes the right to write
            database.execute("ROLLBACK")
        stage = client.experiment_stage(path, experiment)
    except (OSError, sqlite3.Error) as error:
        raise _refusal(uri, f"cannot be written: {getattr(error, 'strerror', None) or error}") from error
    if stage == "deleted":
        raise _deleted(uri, experiment)


def _check_server(uri: str, experiment: str) -> None:
    client = import_quietly()(uri)
    with _timeout(ANSWER_SECONDS), _answering(uri):
        found = client.get_experiment_by_name(experiment)
    if found is not None and found.name != experiment:
        raise _refusal(uri, "answers, but not as an MLflow server")
    if found is not None and found.lifecycle_stage == "deleted":
        raise _deleted(uri, experiment)
    _check_writing(uri, experiment, client)


def _deleted(uri: str, experiment: str) -> InputError:
    return InputError(
        f"MLflow experiment {experiment!r} has been deleted on {public(uri)}; restore it there, or "
        f"name another with MLFLOW_EXPERIMENT_NAME."
    )


def _check_writing(uri: str, experiment: str, client: "MlflowClient") -> None:
    """Who may only read is refused at the first thing that is written."""
    from mlflow.exceptions import MlflowException

    try:
        with _timeout(ANSWER_SECONDS):
            made = client.get_experiment(find_or_create(client, experiment, None))
            client.set_experiment_tag(made.experiment_id, KIND[0], made.tags.get(*KIND))
    except MlflowException as error:
        # A server that has just answered, and fails now, is no reason not to begin: what it misses is sent later.
        if error.error_code in _NOT_ALLOWED or not is_transient(error, remote=True):
            raise _refusal(uri, *_server_fault(error, False, uri, experiment), kind=InputError) from error


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """Tells in a sentence what is wrong with a server that fails in here."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        away = isinstance(error.__context__, OSError)  # of the connection, which MLflow reports by text alone
        raise _refusal(uri, *_server_fault(error, away, uri, None), kind=NoAnswer if away else InputError) from error


def _server_fault(error: Exception, away: bool, uri: str, written: str | None) -> tuple[str, ...]:
    """What is wrong with a server that answered with `error`, and the remedy where it is a special one."""
    text = " ".join(str(error).split())
    if away:
        known = next((fault for sign, fault in _CONNECTION_FAULTS.items() if sign in text), ("cannot be reached",))
        return tuple(part.format(limit=os.environ[_TIMEOUT]) for part in known)
    code = getattr(error, "error_code", "")
    if code in {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}:
        if os.environ.get("MLFLOW_TRACKING_USERNAME") or public(uri) != uri:
            return ("does not take the name and password that it was given", f"correct {_CREDENTIALS}")
        return ("wants a name and a password", f"set {_CREDENTIALS}")
    if code == "PERMISSION_DENIED" and written:
        remedy = "name one of your own with MLFLOW_EXPERIMENT_NAME, or ask its owner for the permission EDIT"
        return (f"does not let you write in experiment {written!r}", remedy)
    if code == "PERMISSION_DENIED":
        answer = text.rpartition("Response body: ")[2].strip("'")[:100]
        return (f"refuses us ({answer})", "ask its owner for access, or correct the name and password")
    if code == "RESOURCE_DOES_NOT_EXIST":
        return ("has no run of this study", "run the same search again to send them")
    return ("answers, but not as an MLflow server",)


def _check_database(uri: str) -> None:
    """Connect to a database server; from a thread, since drivers have no common way to limit the time."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    outcome: list[Exception | None] = []

    def connect() -> None:
        try:
            create_engine(uri).connect().close()
            outcome.append(None)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            outcome.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if not outcome:
        raise _refusal(uri, f"did not answer within {ANSWER_SECONDS} seconds")
    if isinstance(outcome[0], ImportError):
        raise _refusal(uri, f"needs a database driver ({outcome[0]})", "install it, or use another store")
    if outcome[0] is not None:
        raise _refusal(uri, f"cannot be opened: {' '.join(without_credentials(str(outcome[0]), uri).split())[:200]}")


@contextmanager
def _timeout(seconds: int) -> Iterator[None]:
    """MLflow's time-out of a request, which it reads at each."""
    before = os.environ[_TIMEOUT]
    os.environ[_TIMEOUT] = str(seconds)
    try:
        yield
    finally:
        os.environ[_TIMEOUT] = before
