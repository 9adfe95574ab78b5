"""What the simulated hosts need of this machine."""

import os
import shutil
from pathlib import Path

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


def missing() -> str | None:
    """What keeps hosts from being simulated here, in words; None where nothing does."""
    if os.uname().sysname != "Linux":
        return "network namespaces are Linux's"
    if os.geteuid():
        return "only root makes network namespaces"
    packages = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if not Path("/usr/sbin/sshd").exists():
        packages.add("openssh-server")
    return f"not installed: {', '.join(sorted(packages))}" if packages else None
