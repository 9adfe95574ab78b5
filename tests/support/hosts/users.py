"""Several people who use one cluster, each from a laptop."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.hosts import host_files
from tests.support.hosts.host import Host
from tests.support.hosts.host_files import USER
from tests.support.hosts.lan import Lan
from tests.support.hosts.launcher import JOBS, open_tunnel, send
from tests.support.study_process import STUDY

TOKEN = Path("home/.ray/auth_token")  # below the folder of a host


@dataclass(frozen=True)
class User:
    """Who has a laptop with the cluster's token and key, and a tunnel to the head."""

    name: str
    laptop: Host
    log: Path  # of what is printed there

    def send(self, output: str, *flags: str, **changes: Any) -> "subprocess.Popen[str]":
        """The study of the tests, with sections of it changed, and called like its user."""
        study = STUDY | changes | {"name": self.name}
        (self.laptop.state / "home" / f"{self.name}.yaml").write_text(yaml.safe_dump(study))
        return send(self.laptop, f"~/{self.name}.yaml --output {output} {' '.join(flags)}", self.log, self.name)

    def follow(self) -> "subprocess.CompletedProcess[str]":
        """The command that shows a study which runs, to its end."""
        asked = f"LOGNAME={self.name} python -m search.run {self.name} --address {JOBS}"
        return self.laptop.run(asked, check=False, timeout=900)


def user(lan: Lan, name: str, laptop: str, address: str) -> User:
    """Switches on a laptop, and does there what docs/cluster.md says of several users."""
    host = lan.add(laptop, [address], lan.key.with_name(f"{lan.key.name}.pub").read_text())
    host_files.give_key(lan.key, host.state)
    token = host.state / TOKEN
    token.parent.mkdir()
    token.touch(0o600)
    token.write_text((lan.laptop.state / TOKEN).read_text())
    there = f"-N -L 8265:127.0.0.1:8265 {USER}@{lan.head.address}"
    open_tunnel(host, f"ssh -i ~/.ssh/{lan.key.name} -o StrictHostKeyChecking=accept-new {there}")
    return User(name, host, lan.root / f"{laptop}.log")
