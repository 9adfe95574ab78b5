"""What the simulated hosts need of this machine."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.support.hosts.host import NAMESPACES

TOOLS = {  # program -> Debian's package
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ip": "iproute2",
    "ss": "iproute2",
    "rsync": "rsync",
    "curl": "curl",
    "ssh": "openssh-client",
    "pgrep": "procps",
}
# What a host and its switch are made of; all of it goes with the process.
TRIED = (
    "mount -t tmpfs tmpfs /mnt && mount -t proc proc /proc && ip link add tried type bridge && ip link add type veth"
)


@cache
def missing() -> str | None:
    """What keeps hosts from being simulated here, in words; None where nothing does."""
    if os.uname().sysname != "Linux":
        return "network namespaces are Linux's"
    if os.geteuid():
        return "only root makes network namespaces"
    packages = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if not Path("/usr/sbin/sshd").exists():
        packages.add("openssh-server")
    if packages:
        return f"not installed: {', '.join(sorted(packages))}"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "--kill-child", "bash", "-c", TRIED],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"no hosts can be made here: {tried.stderr.strip()}" if tried.returncode else None
