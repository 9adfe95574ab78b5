"""How MLflow is reached: imported quietly, spoken to without leaking credentials, its failures told apart."""

import getpass
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
