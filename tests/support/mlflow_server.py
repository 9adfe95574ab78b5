"""A real MLflow server, a proxy that loses and holds its answers, and its REST interface without MLflow's client."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support.empty_database import place

START_SECONDS = 120


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 30) -> None:
    """Return as soon as `condition()` is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.02)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as response:
            return response.read() == b"OK"
    except (OSError, http.client.HTTPException):
        return False


class Server:
    """An `mlflow server` process over one SQLite file, or the database of a URL, which can be killed and started again
    at the same address."""

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        database: str | None = None,
    ) -> None:
        self.folder = folder
        self.database = database
        self.options = options
        self.environment = environment or {}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.database is None:
            place(self.folder / "server.db")
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        store = ["--backend-store-uri", self.database or f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        files = ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", **self.environment}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # eight workers of a queue that nobody here uses
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *store, *files, *self.options],
                cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: answers(self.url), "the MLflow server's start", START_SECONDS)

    def kill(self) -> None:
        assert self.process is not None
        end_group(self.process)
        wait_until(lambda: not answers(self.url), "the MLflow server's end")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process started in a session of its own, with its children."""
    os.killpg(process.pid, 9)
    process.wait()


class Proxy:
    """Forwards to `upstream`. `fate(method, path)` decides over each request:

    "pass"; "refuse" (500, never forwarded); "lose" (forwarded, answered with 500); "hold" (forwarded when `release` is
    set, by which time the client may have gone).
    """

    def __init__(self, upstream: str, fate: Callable[[str, str], str]) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.fate = fate
        self.release = threading.Event()
        self.held: list[str] = []
        self.forwarded_late: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - names of http.server

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        fate = self.fate(request.command, request.path)
        if fate == "hold":
            self.held.append(request.path)
            self.release.wait(60)
        try:
            status, answer = (500, b"broken") if fate == "refuse" else self.forward(request, body)
        except (OSError, http.client.HTTPException):  # the server is dead: so is the connection
            request.close_connection = True
            return
        if fate == "hold":
            self.forwarded_late.append(request.path)
        if fate == "lose":
            status, answer = 500, b"broken"
        with suppress(BrokenPipeError, ConnectionResetError):  # the client may have given up
            request.send_response(status)
            request.send_header("content-length", str(len(answer)))
            request.end_headers()
            request.wfile.write(answer)

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        headers = {key: value for key, value in request.headers.items() if key.lower() != "host"}
        connection.request(request.command, request.path, body, headers)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


def rest(base: str, method: str, headers: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """The answer of the server's REST interface: GET with a query, POST for searches."""
    url, data = f"{base}/api/2.0/mlflow/{method}", None
    if method.endswith("search"):
        data = json.dumps(fields).encode()
    else:
        url += "?" + urlencode(fields)
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def runs_of(base: str, experiment: str) -> list[dict[str, Any]]:
    """All active runs of an experiment: `info`, `params`, `tags`, `inputs`, by start."""
    experiment_id = rest(base, "experiments/get-by-name", experiment_name=experiment)["experiment"]["experiment_id"]
    found = rest(base, "runs/search", experiment_ids=[experiment_id], max_results=1000).get("runs", [])
    return [
        {
            "info": run["info"],
            "params": {pair["key"]: pair["value"] for pair in run["data"].get("params", [])},
            "tags": {pair["key"]: pair["value"] for pair in run["data"].get("tags", [])},
            "inputs": run.get("inputs", {}),
        }
        for run in sorted(found, key=lambda run: (run["info"]["start_time"], run["info"]["run_name"]))
    ]


def history(base: str, run_id: str, key: str) -> list[tuple[int, float, int]]:
    """Every point of a metric that the server holds: (step, value, time in ms)."""
    points = rest(base, "metrics/get-history", run_id=run_id, metric_key=key).get("metrics", [])
    return sorted((int(point.get("step", 0)), float(point["value"]), int(point["timestamp"])) for point in points)
