"""A real PostgreSQL server in a folder of its own, which can be killed and started again at the same address."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support.mlflow_server import free_port, wait_until

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian puts them, the newest last
USER = "postgres"  # PostgreSQL does not run as root


class Postgres:
    """Answers on the loopback alone, and asks for a password."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.password, self.port = secrets.token_hex(8), free_port()
        self._user = USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(self.folder, self._user)
        secret = self.folder / "password"
        secret.write_text(self.password)
        self._call("initdb", "-D", self.folder / "data", "-U", "team", "--pwfile", secret, "-A", "scram-sha-256")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://team:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        self._run()
        wait_until(lambda: self._ready() == 0, "PostgreSQL's start")

    def start_refusing(self) -> None:
        """As a server that recovers for long: it answers that it takes nobody, until `accept`."""
        signal_file = self.folder / "data" / "standby.signal"
        signal_file.touch()
        if self._user:
            shutil.chown(signal_file, self._user)
        self._run("-c", "hot_standby=off")
        wait_until(lambda: self._ready() == 1, "PostgreSQL's refusal")

    def accept(self) -> None:
        promote = ("pg_ctl", "promote", "-D", self.folder / "data")
        wait_until(lambda: self._call(*promote, check=False) == 0, "PostgreSQL's standby")  # refuses before that, too
        wait_until(lambda: self._ready() == 0, "PostgreSQL's consent")

    def kill(self) -> None:
        """As `kill -9` does; what it had started ends by itself when it notices."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def remove(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # at once, with clients or without
            self._process.wait()
        shutil.rmtree(self.folder)

    def _run(self, *flags: str) -> None:
        command = [
            PROGRAMS[-1] / "postgres",
            "-D",
            self.folder / "data",
            "-k",
            self.folder,
            "-p",
            str(self.port),
            *flags,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user)

    def _ready(self) -> int:
        """0: it takes connections, 1: it refuses them, 2: no answer."""
        return self._call("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), check=False)

    def _call(self, program: str, *arguments: object, check: bool = True) -> int:
        command = [PROGRAMS[-1] / program, *map(str, arguments)]
        return subprocess.run(command, check=check, stdout=subprocess.DEVNULL, user=self._user).returncode
