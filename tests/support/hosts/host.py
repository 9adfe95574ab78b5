"""One simulated host: network, processes, name, /tmp, $HOME and /dev/shm of its own, and sshd on port 22."""

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.hosts.waiting import wait_for

BOOT = (Path(__file__).parent / "boot.sh").read_text()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME = str(Path.home())
NAMESPACES = ["--net", "--mount", "--pid", "--uts", "--ipc"]


class Host:
    """A host that is off until `boot`.

    Args:
        name: and host name.
        addresses: the first one is where the others reach it.
        state: its folder: the disk.
        device: of its link, at the switch.
        in_switch: runs a command where the switch is.
    """

    def __init__(
        self, name: str, addresses: list[str], state: Path, device: str, in_switch: Callable[..., str]
    ) -> None:
        self.name, self.addresses, self.state, self.device = name, addresses, state, device
        self._in_switch = in_switch
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0  # its process 1, as this machine counts

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def boot(self, keep: list[str], shared: Path, switch: int) -> None:
        """Starts it, with the files that are in its folder, and waits for its sshd."""
        settings = {"NAME": self.name, "STATE": str(self.state), "SHARED": str(shared), "KEEP": " ".join(keep)}
        # Its process 1 waits for a line until its network is there.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--fork", "--kill-child"]
        with (self.state / "boot.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "bash", "-c", f"read _ && exec < /dev/null || exit 1\n{BOOT}"],
                env={"PATH": PATH, "HOME": HOME, "LANG": "C.UTF-8", **settings}, cwd="/",
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children")
        self._init = int(wait_for(lambda: children.read_text().split(), 60, "the first process")[0])
        self._connect(switch)
        assert self._process.stdin is not None
        with self._process.stdin as stdin:
            stdin.write(b"go\n")
        wait_for(self._answers, 60, f"sshd of {self.name}")

    def run(self, command: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Runs a shell command as root to its end."""
        ended = subprocess.run(
            self.entered(command),
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        assert not check or ended.returncode == 0, (
            f"{self.name}: {command}\nended with {ended.returncode}\n{ended.stdout[-6000:]}\n{ended.stderr[-6000:]}"
        )
        return ended

    def start(self, command: str, **files: Any) -> subprocess.Popen[str]:
        """Starts a shell command as root."""
        return subprocess.Popen(self.entered(f"exec {command}"), text=True, **({"stdin": subprocess.DEVNULL} | files))

    def entered(self, command: str) -> list[str]:
        """The command line that does it from outside, for a login of root's."""
        inside = ["nsenter", "-t", str(self._init), *NAMESPACES, "--wd=/"]
        shell = ["env", "-i", f"HOME={HOME}", "LANG=C.UTF-8", "TERM=dumb", f"PATH={PATH}", "bash", "-c"]
        return [*inside, *shell, f"source ~/.bashrc; cd ~; {command}"]

    def namespaces(self) -> frozenset[str]:
        """Those of its processes, as the kernel names them."""
        return namespaces_of(self._init)

    def unplug(self) -> None:
        """Cuts its link; everything on it goes on."""
        self._in_switch("ip", "link", "set", self.device, "down")

    def plug(self) -> None:
        self._in_switch("ip", "link", "set", self.device, "up")

    def power_off(self) -> None:
        """Ends everything on it at once, as when its plug is pulled."""
        if self._process is not None and self.on:
            # With that process all others of its namespace end; before there is one, with its parent.
            with suppress(ProcessLookupError):
                os.kill(self._init or self._process.pid, signal.SIGKILL)
            self._process.wait(60)

    def _answers(self) -> bool:
        assert self.on, (self.state / "boot.log").read_text()
        return self.run("ss -ltn | grep -q ':22 '", check=False).returncode == 0

    def _connect(self, switch: int) -> None:
        ends = ["type", "veth", "peer", "name", "eth0", "netns", str(self._init)]
        subprocess.run(["ip", "link", "add", self.device, "netns", str(switch), *ends], check=True)
        self._in_switch("ip", "link", "set", self.device, "master", "br0", "up")
        inside = ["nsenter", "-t", str(self._init), "--net", "ip"]
        for address, bits in zip(self.addresses, [16, *[32] * len(self.addresses)], strict=False):
            subprocess.run([*inside, "addr", "add", f"{address}/{bits}", "dev", "eth0"], check=True)
        subprocess.run([*inside, "link", "set", "eth0", "up"], check=True)
        # All hosts are on this one wire, whatever their addresses, and nothing leads out of it.
        subprocess.run([*inside, "route", "add", "default", "dev", "eth0"], check=True)


def namespaces_of(pid: int, kinds: Sequence[str] = ("net", "mnt", "pid", "uts", "ipc")) -> frozenset[str]:
    """Those of a process, as the kernel names them; empty when it has ended."""
    try:
        return frozenset(str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in kinds)
    except OSError:
        return frozenset()
