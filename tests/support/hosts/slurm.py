"""Slurm on simulated hosts: its controller on the head, where jobs are sent from, and a daemon on each worker."""

import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.hosts.host import Host
from tests.support.hosts.lan import Lan
from tests.support.hosts.waiting import wait_for

PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "munged": "munge", "sbatch": "slurm-client"}
FOLDER = "/mnt/shared/slurm"
SHELL = f"export SLURM_CONF={FOLDER}/slurm.conf\n"
# No control groups: a host has none of its own. A job that is put back into the queue starts once no node can
# take the credentials of its former start for valid: after two minutes, unless they are valid for less.
CONFIGURATION = """\
ClusterName=simulated
SlurmctldHost={head}
AuthType=auth/munge
AuthInfo=socket=/run/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
StateSaveLocation=/run/slurmctld
SlurmdSpoolDir=/run/slurmd
SlurmctldLogFile=/run/slurmctld.log
SlurmdLogFile=/run/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=1,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MinJobAge=300
KillWait=5
InactiveLimit=0
SlurmdTimeout=10
SlurmctldTimeout=10
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """What of Slurm is not installed here, in words; None where nothing is missing."""
    path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    packages = {package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None}
    return f"not installed: {', '.join(sorted(packages))}" if packages else None


@dataclass
class Slurm:
    """While it is entered, the hosts of `lan` are a cluster of Slurm's."""

    lan: Lan
    cores: int  # that each node says it has
    _daemons: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)

    def __enter__(self) -> Self:
        folder = self.lan.shared / "slurm"
        folder.mkdir()
        nodes = [
            f"NodeName={host.name} NodeAddr={host.address} CPUs={self.cores} RealMemory=1000"
            for host in self.lan.workers
        ]
        head = f"{self.lan.head.name}({self.lan.head.address})"
        (folder / "slurm.conf").write_text(CONFIGURATION.format(head=head, nodes="\n".join(nodes)))
        for host in (self.lan.head, *self.lan.workers):
            key = host.state / "run" / "munge.key"
            key.touch(0o600)
            key.write_bytes(self._key)
            files = "--key-file /run/munge.key --socket /run/munge.socket --pid-file /run/munge.pid"
            here = "--log-file /run/munge.log --seed-file /run/munge.seed"
            self._start(host, f"munged --foreground --force {files} {here}")
            wait_for((host.state / "run" / "munge.socket").exists, 60, f"munged of {host.name}")
        self.lan.head.run("mkdir -p /run/slurmctld")
        self._start(self.lan.head, "slurmctld -D")
        for host in self.lan.workers:
            self.start_node(host)
        wait_for(lambda: self.states() == {"idle"}, 60, "idle nodes")
        return self

    def __exit__(self, *raised: object) -> None:
        for daemon in self._daemons.values():
            daemon.terminate()
            daemon.wait(60)

    def start_node(self, host: Host) -> None:
        """Starts the daemon of a node."""
        self._start(host, f"mkdir -p /run/slurmd && exec slurmd -D -N {host.name}")

    def states(self) -> set[str]:
        """Of the nodes."""
        return set(self.ask("sinfo -h -N -o %t").split())

    def ask(self, command: str) -> str:
        """What a command prints on the head."""
        return self.lan.head.run(command).stdout

    def job(self, number: str) -> dict[str, Any]:
        """What the controller knows of a job."""
        words = self.ask(f"scontrol show job -o {number}").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def _start(self, host: Host, command: str) -> None:
        log = (host.state / "run" / "daemons.log").open("a")
        with log:
            daemon = host.start(f"bash -c '{command}'", stdout=log, stderr=subprocess.STDOUT)
        self._daemons[f"{host.name}: {command.split()[0]}"] = daemon

    @property
    def _key(self) -> bytes:
        file = self.lan.root / "munge.key"
        if not file.exists():
            file.write_bytes(secrets.token_bytes(128))
        return file.read_bytes()
