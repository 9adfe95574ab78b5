"""MLflow's pages, served as `python -m search.ui` does."""

import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from search.tracking import Store
from tests.support.mlflow_server import end_group, wait_until

LOAD_MS = 60_000
SERVE = """
import sys, socket
from search.tracking import PageServer, Store
uri, root, listening = sys.argv[1], sys.argv[2], socket.socket(fileno=int(sys.argv[3]))
server = PageServer(Store(uri, "", root), sys.stdin.readline().strip())
print("ready", flush=True)
server.serve(listening)
"""
TOKEN = secrets.token_urlsafe(32)


@contextmanager
def pages(store: Store, log: Path) -> Iterator[str]:
    """The address of MLflow's pages on a database, while they are served; see `enter` and `cookie`."""
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as file:
        command = [sys.executable, "-c", SERVE, store.uri, str(store.root), str(listening.fileno())]
        process = subprocess.Popen(
            command, cwd=os.sep, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True,
            pass_fds=[listening.fileno()],
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(f"{TOKEN}\n".encode())
        process.stdin.close()
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        wait_until(lambda: "ready" in log.read_text(), "MLflow's pages", 120)
    yield base
    end_group(process)


def enter(page: Page, base: str) -> None:
    """The browser gets its cookie."""
    page.goto(f"{base}/?token={TOKEN}")
    page.wait_for_url(re.compile(rf"{re.escape(base)}/(#.*)?$"))


def cookie(base: str) -> dict[str, str]:
    """What a browser sends along that has entered."""
    return {"cookie": f"resnet-search-{base.rpartition(':')[2]}={TOKEN}"}
