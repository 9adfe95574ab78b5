"""MLflow's pages, started with the command that we print."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.tracking_uri import ui_arguments, ui_environment
from tests.mlflow_server import answers, end_group, free_port, wait_until

LOAD_MS = 60_000


@contextmanager
def pages(uri: str, root: str | None, log: Path) -> Iterator[str]:
    """The address of MLflow's pages on the database at `uri`, while they are served."""
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            ui_arguments(uri, root, port), env=ui_environment(), cwd=os.sep, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    wait_until(lambda: answers(f"http://127.0.0.1:{port}"), "MLflow's pages", 120)
    yield f"http://127.0.0.1:{port}"
    end_group(process)
