"""MLflow itself. Its import takes seconds: it is done in the thread that sends, and where a server is asked."""

import getpass
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from search.errors import InputError, public, without_credentials
from search.tracking.store import (
    ANSWER_SECONDS,
    SQLITE,
    NoAnswer,
    Store,
    file_of,
    is_empty,
    is_transient,
    is_used,
    refusal,
    version,
)

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # those are ours
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
os.environ.update(_QUIET)  # some of it MLflow reads when it is imported, the rest at each request

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Run, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

PARAM_LENGTH, TAG_LENGTH = 6000, 8000  # characters; MLflow refuses or cuts longer values
KIND = "mlflow.experimentKind", "custom_model_development"  # MLflow's pages open on language models otherwise
NOT_ALLOWED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
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
_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def connect(uri: str) -> MlflowClient:
    """A client that prints and reports nothing, and leaves retries to its caller."""
    os.environ.update(_QUIET)
    os.environ.setdefault(_TIMEOUT, "30")  # seconds
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # every error reaches us as an exception
    return MlflowClient(uri)


def user() -> str:
    """Who a run is said to be of: the name on the server, or else on this machine."""
    known = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if known:
        return known
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


def find_or_create(client: MlflowClient, experiment: str, artifact_root: str | None) -> str:
    """The id of the experiment with this name; a new one keeps its artifacts in the folder `artifact_root`, or, where
    that is None, where the server decides."""
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


def ready(uri: str) -> None:
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
        if is_used(path):
            return
        for left in path.parent.glob(f".{path.name}.new-*"):
            left.unlink()
        fresh = path.with_name(f".{path.name}.new-{uuid.uuid4().hex}")  # MLflow remembers each that it has opened
        connect(f"{SQLITE}{fresh}").search_experiments(max_results=1)
        if is_empty(path):
            fresh.replace(path)
        elif version(path) != version(fresh):
            path.rename(path.with_name(f"{path.name}.damaged"))
            fresh.replace(path)
        else:
            fresh.unlink()


def find_runs(client: MlflowClient, experiment_id: str, condition: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """All runs of an experiment for which the condition holds; deleted ones only where `view` asks for them."""
    runs: list[Run] = []
    token = None
    while page := client.search_runs([experiment_id], condition, view, page_token=token):
        runs += page
        token = page.token
        if not token:
            break
    return runs


def check(store: Store) -> None:
    """See `Store.check`, for a tracking server or a database server."""
    uri = store.uri
    if not store.remote:
        _check_database(uri)
        return
    client = connect(uri)
    with _timeout(ANSWER_SECONDS), _answering(uri):
        found = client.get_experiment_by_name(store.experiment)
    if found is not None and found.name != store.experiment:
        raise refusal(uri, "answers, but not as an MLflow server")
    if found is not None and found.lifecycle_stage == "deleted":
        raise store.deleted()
    _check_writing(store, client)


def place_of(uri: str, run_id: str) -> tuple[str, str]:
    """Of a trial's run: the ids of its experiment, and of its study's run.

    Raises:
        InputError: the server does not answer, refuses us, or has no such run.
    """
    client = connect(uri)
    with _answering(uri):
        run = client.get_run(run_id)
    return run.info.experiment_id, run.data.tags["mlflow.parentRunId"]


def _check_writing(store: Store, client: MlflowClient) -> None:
    """Who may only read is refused at the first thing that is written."""
    try:
        with _timeout(ANSWER_SECONDS):
            made = client.get_experiment(find_or_create(client, store.experiment, None))
            client.set_experiment_tag(made.experiment_id, KIND[0], made.tags.get(*KIND))
    except MlflowException as error:
        # A server that has just answered, and fails now, is no reason not to begin: what it misses is sent later.
        if error.error_code in NOT_ALLOWED or not is_transient(error, remote=True):
            raise refusal(
                store.uri, *_server_fault(error, False, store.uri, store.experiment), kind=InputError
            ) from error


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """Tells in a sentence what is wrong with a server that fails in here."""
    try:
        yield
    except MlflowException as error:
        away = isinstance(error.__context__, OSError)  # of the connection, which MLflow reports by text alone
        raise refusal(uri, *_server_fault(error, away, uri, None), kind=NoAnswer if away else InputError) from error


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
        raise refusal(uri, f"did not answer within {ANSWER_SECONDS} seconds")
    if isinstance(outcome[0], ImportError):
        raise refusal(uri, f"needs a database driver ({outcome[0]})", "install it, or use another store")
    if outcome[0] is not None:
        raise refusal(uri, f"cannot be opened: {' '.join(without_credentials(str(outcome[0]), uri).split())[:200]}")


@contextmanager
def _timeout(seconds: int) -> Iterator[None]:
    """MLflow's time-out of a request, which it reads at each."""
    before = os.environ[_TIMEOUT]
    os.environ[_TIMEOUT] = str(seconds)
    try:
        yield
    finally:
        os.environ[_TIMEOUT] = before
