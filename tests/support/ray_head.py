"""A cluster with a job server, as `ray start --head` makes it: on loopback, with a token, and ports of its own."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

START_SECONDS = 60.0
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # so that Ray takes 127.0.0.1 for the node's address everywhere
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "ray-client-server-port",
    "node-manager-port",
    "object-manager-port",
)


class Head:
    """A machine with two cores; `address` is its job server, `shell` the environment of a user who has the token."""

    def __init__(self, folder: Path, log: Path) -> None:
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.address = f"http://127.0.0.1:{ports['dashboard-port']}"
        self.token = secrets.token_hex(32)
        here = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_AUTH", "RAY_ADDRESS"))}
        here["PATH"] = f"{Path(sys.executable).parent}:{here['PATH']}"
        (folder / ".ray").mkdir()
        (folder / ".ray" / "auth_token").write_text(self.token)
        # The user's token lies where Ray's own tools put it.
        self.shell = here | {"HOME": str(folder), "RAY_ADDRESS": self.address}
        node = ["--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=2"]
        given = [f"--temp-dir={folder / 'ray'}", "--num-gpus=0", "--object-store-memory=100000000"]
        self._log = log.open("wb")
        self.process = subprocess.Popen(
            ["ray", "start", *node, *given, *(f"--{name}={port}" for name, port in ports.items())],
            env=here | LOOPBACK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token},
            cwd=folder, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        self._await(log)

    def jobs(self) -> list[dict[str, Any]]:
        """As the server tells of them, the oldest first."""
        return sorted(self._get("/api/jobs/"), key=lambda job: job["start_time"])

    def close(self) -> None:
        """Ends every process of it."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for left in psutil.wait_procs(family, 10)[1]:
            left.kill()
        self.process.kill()
        self.process.wait()
        self._log.close()

    def _await(self, log: Path) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            with suppress(OSError):
                self._get("/api/jobs/")
                return
            time.sleep(0.1)

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def head(log: Path) -> Iterator[Head]:
    """While it is entered, the cluster runs; `log` is a file."""
    folder = Path(tempfile.mkdtemp(prefix="rs-"))  # short: Ray's sockets are below it, and their names may not be long
    made = None
    try:
        made = Head(folder, log)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens to."""
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
