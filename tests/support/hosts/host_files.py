"""The files that a simulated host boots with: accounts, names, keys, and what sshd and bash read."""

import shutil
import subprocess
import sys
from pathlib import Path

USER = "ubuntu"
ACCOUNT = {  # of the only user beside root
    "passwd": f"{USER}:x:1000:1000::/home/{USER}:/bin/bash",
    "group": f"{USER}:x:1000:",
    "shadow": f"{USER}:*:19000:0:99999:7:::",
}
SSHD = """\
ListenAddress 0.0.0.0
HostKey /run/ssh_host_ed25519_key
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PidFile none
PrintMotd no
MaxSessions 100
MaxStartups 100
"""
# Of every shell. The autoscaler looks every two seconds, so that tests need not wait; the memory monitor would see the
# whole machine.
BASHRC = f"""\
export PATH={Path(sys.executable).parent}:$PATH PYTHONDONTWRITEBYTECODE=1
export RAY_memory_monitor_refresh_ms=0 RAY_USAGE_STATS_ENABLED=0
export AUTOSCALER_UPDATE_INTERVAL_S=2 AUTOSCALER_HEARTBEAT_TIMEOUT_S=10
"""


def write(state: Path, public_key: str, names: dict[str, str], shell: str) -> None:
    """Fills the folder `state` of a host. `names`: host -> address; `shell`: lines more for every shell."""
    for folder in ("tmp", "home/.ssh", f"homes/{USER}/.ssh", "run/sshd"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "tmp").chmod(0o1777)
    (state / "home").chmod(0o755)
    for home in ("home", f"homes/{USER}"):
        ssh = state / home / ".ssh"
        ssh.chmod(0o700)
        (ssh / "authorized_keys").write_text(public_key)
        (state / home / ".bashrc").write_text(BASHRC + shell)
    for file, line in ACCOUNT.items():
        others = [
            x for x in Path("/etc", file).read_text().splitlines() if ":1000:" not in x and x.split(":")[0] != USER
        ]
        (state / f"etc_{file}").write_text("\n".join([*others, line, ""]))
    known = "".join(f"{address} {name}\n" for name, address in names.items())
    (state / "etc_hosts").write_text(f"127.0.0.1 localhost\n{known}")
    (state / "run/sshd_config").write_text(SSHD)
    if not (state / "run/ssh_host_ed25519_key").exists():
        make_key(state / "run/ssh_host_ed25519_key")


def make_key(path: Path) -> str:
    """A new key pair without a pass phrase; the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text()


def give_key(key: Path, state: Path) -> None:
    """Puts a private key where the root of a host finds it."""
    target = state / "home/.ssh" / key.name
    shutil.copy(key, target)
    target.chmod(0o600)
