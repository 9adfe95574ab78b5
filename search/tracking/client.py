"""MLflow itself. Its import takes seconds: it is done in the thread that sends, and where a server is asked."""

import getpass
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from search.errors import InputError
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
from search.tracking.views import ORDER, sought_in, tested

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

SHOWN = 100  # trials in a comparison; a longer address breaks in some browsers
PARAM_LENGTH, TAG_LENGTH = 6000, 8000  # characters; MLflow refuses or cuts longer values
KIND = "mlflow.experimentKind", "custom_model_development"  # MLflow's pages open on language models otherwise
_REFUSED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_ACCESS = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, ask its owner for the permission EDIT, or name an "
    "experiment of your own with MLFLOW_EXPERIMENT_NAME"
)


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
    """See `Store.check`, for a tracking server."""
    client = connect(store.uri)
    with _asking(store):
        found = client.get_experiment_by_name(store.experiment)
    if found is not None and found.name != store.experiment:
        raise refusal(store.uri, "answers, but not as an MLflow server")
    if found is not None and found.lifecycle_stage == "deleted":
        raise store.deleted()
    # Who may only read is refused at the first thing that is written. A server that has just answered, and fails now,
    # is no reason not to begin: what it misses is sent later.
    with _asking(store, lenient=True):
        made = client.get_experiment(find_or_create(client, store.experiment, None))
        client.set_experiment_tag(made.experiment_id, KIND[0], made.tags.get(*KIND))


def ranked(store: Store, study: str) -> list[str]:
    """Ids of a study's trials, as its report orders them, by the id of its run; the first hundred.

    Raises:
        InputError: the store does not answer, refuses us, or has no such run.
    """
    client = connect(store.uri)
    with _asking(store):
        run = client.get_run(study)
        order = [f"tags.`{ORDER}`", f"metrics.`{tested(sought_in(run.data.params))}`"]
        condition = f"tags.`mlflow.parentRunId` = '{study}'"
        found = client.search_runs([run.info.experiment_id], condition, max_results=SHOWN, order_by=order)
    return [run.info.run_id for run in found]


@contextmanager
def _asking(store: Store, lenient: bool = False) -> Iterator[None]:
    """Gives a server seconds to answer what is asked in here, and says what is wrong with one that does not.

    One that is only busy, or away, is let pass if `lenient`.
    """
    before = os.environ[_TIMEOUT]
    os.environ[_TIMEOUT] = str(ANSWER_SECONDS)  # which MLflow reads at each request
    try:
        yield
    except MlflowException as error:
        if not lenient or error.error_code in _REFUSED or not is_transient(error, remote=True):
            raise _fault(store, error) from error
    finally:
        os.environ[_TIMEOUT] = before


def _fault(store: Store, error: MlflowException) -> InputError:
    """No answer, refused, or not MLflow; in the server's own words."""
    if isinstance(error.__context__, OSError):  # of the connection
        cause: BaseException = error
        while (deeper := cause.__cause__ or cause.__context__) is not None:
            cause = deeper
        return refusal(store.uri, f"does not answer ({_words(cause)})", kind=NoAnswer)
    if error.error_code in _REFUSED:
        return refusal(store.uri, f"refuses us in experiment {store.experiment!r} ({_words(error)})", _ACCESS)
    if error.error_code == "RESOURCE_DOES_NOT_EXIST":
        return refusal(store.uri, f"lacks the study ({_words(error)})", "run the same search again to send it")
    return refusal(store.uri, f"answers, but not as an MLflow server ({_words(error)})")


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()).rpartition("Response body: ")[2].strip("'")[:150]
