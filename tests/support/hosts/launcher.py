"""What a user does on the laptop: `ray up`, the tunnel, a study sent to the cluster, `ray down`."""

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.hosts.host import Host
from tests.support.hosts.host_files import USER
from tests.support.hosts.lan import Lan
from tests.support.hosts.waiting import wait_for
from tests.support.study_process import ROOT

PLAIN = "--log-style pretty --log-color false"
JOBS = "http://localhost:8265"
SEND = f"RAY_ADDRESS={JOBS} python -m search.run"  # how a study is sent


@dataclass
class Launcher:
    """The cluster of a file on the laptop."""

    lan: Lan
    file: str

    def up(self) -> None:
        """As the documentation says: a token, then `ray up`."""
        self.lan.laptop.run("umask 077; ray get-auth-token --generate")
        self._ray("up -y --no-config-cache")

    def down(self) -> None:
        self._ray("down -y")

    def open_tunnel(self) -> None:
        """From now on the dashboard of the head answers on the laptop."""
        open_tunnel(self.lan.laptop, f"env -C {ROOT} ray dashboard {self.file}")

    def send(self, arguments: str, log: Path) -> "subprocess.Popen[str]":
        """A study, followed to its end; what it prints goes to `log`."""
        return send(self.lan.laptop, arguments, log)

    def nodes(self, head: str, count: int, seconds: float) -> list[dict[str, Any]]:
        """Machines of the cluster that live, once they are so many; as the head sees them."""
        program = f"cd {ROOT} && python -m tests.support.hosts.nodes {count} {seconds}"
        shown = self.lan.hosts[head].run(f"su - {USER} -c {shlex.quote(f'bash -ic {shlex.quote(program)}')}").stdout
        found = json.loads(shown.strip().splitlines()[-1])
        assert len(found) == count, f"{[node['host'] for node in found]}: not {count} machines after {seconds:g} s"
        return found

    def _ray(self, command: str) -> None:
        self.lan.laptop.run(f"cd {ROOT}; ray {command} {PLAIN} {self.file}", timeout=900)


def open_tunnel(laptop: Host, command: str) -> None:
    """From now on the dashboard of the head answers on the laptop, as long as the command runs there."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    laptop.start(command, **silent)
    there = "ss -ltn | grep -q 127.0.0.1:8265"
    wait_for(lambda: laptop.run(there, check=False).returncode == 0, 180, "the tunnel", every=0.5)


def send(laptop: Host, arguments: str, log: Path, user: str = "root") -> "subprocess.Popen[str]":
    """A study of this user, followed to its end; what it prints goes to `log`."""
    with log.open("w") as file:
        command = shlex.quote(f"cd {ROOT} && LOGNAME={user} {SEND} {arguments}")
        return laptop.start(f"bash -c {command}", stdout=file, stderr=subprocess.STDOUT)
