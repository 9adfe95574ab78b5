"""Who listens on a host, and for whom."""

import re
from dataclasses import dataclass

from tests.support.hosts.host import Host

# ssh, and the processes of Ray that the machines of a cluster reach on each other. All of Ray's ask for the token, but
# for pages with metrics; the dashboard and the autoscaler have one of those, too.
INTERNAL = ("sshd", "gcs_server", "raylet", "ray::", "ray/dashboard", "ray/autoscaler", "ray.util.client")


@dataclass(frozen=True, order=True)
class Listening:
    """One listening socket."""

    address: str
    port: int
    program: str

    @property
    def loopback(self) -> bool:
        return self.address.startswith("127.") or self.address in ("[::1]", "[::ffff:127.0.0.1]")


def listening(host: Host) -> list[Listening]:
    """All sockets that listen for TCP on a host, with the command of their process."""
    found: list[Listening] = []
    for line in host.run("ss -ltnpH").stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        process = re.search(r"pid=(\d+)", line)
        shown = host.run(f"tr '\\0' ' ' < /proc/{process[1]}/cmdline", check=False).stdout if process else ""
        found.append(Listening(address, int(port), _name(shown)))
    return sorted(found)


def _name(command: str) -> str:
    """The program of a command line: of Python's, the file or module that it runs."""
    words = command.split()
    if not words:
        return "?"
    script = next((word for word in words[1:] if word.endswith(".py") or word.startswith(("mlflow", "ray"))), "")
    program = words[0].rpartition("/")[2].rstrip(":")
    return script.rpartition("site-packages/")[2] if program.startswith("python") and script else program
