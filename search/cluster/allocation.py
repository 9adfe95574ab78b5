"""Inside a job of Slurm's, on its first machine: Ray on all of them, the study, and how the job ends.

`python -m search.cluster.allocation FOLDER FLAGS`: where studies are kept, and what `python -m search.run` gets.
"""

import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from search import Study, execution
from search.cluster import node
from search.errors import Halted, InputError
from search.storage import scratch

START_SECONDS = 120.0  # for Ray to start here, which a shared file system may read slowly
EPOCH_SECONDS = 90.0  # from Slurm's USR1, for trials to end an epoch; what is left of the time is for Ray to end
ENDED = (0, 1, 2)  # exit statuses of a study that more time would not help
LIVENESS = {  # as search/cluster/env.sh has them
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}


def main(folder: str, *flags: str) -> int:
    """Runs the study; puts the job back into the queue where its time is over before the study has ended.

    Returns the exit status of the study.
    """
    signals = Signals()  # from now on
    machines = int(os.environ["SLURM_JOB_NUM_NODES"])
    for name in ("RAY_ADDRESS", "OMP_NUM_THREADS"):  # each trial has the threads of its own cores
        os.environ.pop(name, None)
    with ExitStack() as around:
        if machines > 1:  # else the study starts a Ray of its own
            os.environ |= LIVENESS | {"RAY_USAGE_STATS_ENABLED": "0", execution.MACHINES: str(machines)}
            # In the memory of this job's processes alone, and new each time.
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            os.environ["RAY_ADDRESS"] = around.enter_context(_cluster(folder, machines - 1))
        if "SLURM_RESTART_COUNT" in os.environ:  # what was begun again is now continued
            flags = tuple(flag for flag in flags if flag not in ("--fresh", "--yes"))
        before = _epochs(folder)
        study = subprocess.Popen([sys.executable, "-m", "search.run", *flags])
        goes_on = wait(study, signals)
    if goes_on and study.returncode not in ENDED:
        if before is not None and _epochs(folder) == before:  # it would be so each time
            node.tell("no epoch has ended in the time of this job; give the same command with a longer time=")
        else:
            _requeue(os.environ["SLURM_JOB_ID"])
    return study.returncode


class Signals:
    """Signals to this process: USR1, its time is nearly over; TERM, somebody stops it; CHLD, a process has ended."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: None)  # by which Python writes its number into the pipe

    def wait(self, until: float | None) -> int | None:
        """The next one; None where none has come `until` that time of `time.monotonic`."""
        left = None if until is None else max(0.0, until - time.monotonic())
        ready, _, _ = select.select([self._read], [], [], left)
        return os.read(self._read, 1)[0] if ready else None


def wait(study: "subprocess.Popen[bytes]", signals: Signals) -> bool:
    """Until it has ended; whether the job is to go on later, for its time is over, and nobody stops it."""
    received, end = set[int](), None
    while study.poll() is None:
        number = signals.wait(end)
        if number is None:
            study.kill()
        elif number != signal.SIGCHLD:
            if not received:
                study.terminate()
            received.add(number)
            if end is None and number == signal.SIGUSR1:
                end = time.monotonic() + EPOCH_SECONDS
    return received == {signal.SIGUSR1}


@contextmanager
def _cluster(folder: str, others: int) -> Iterator[str]:
    """While it is entered, Ray runs on this machine and the `others`; yields its address.

    Raises:
        Halted: it does not start here. A machine where it does not start says so, and is left out.
    """
    # A step has what the job has of each machine: its memory, and all its cores for what runs there.
    step = ["srun", "--relative=1", "--mem=0", "--cpu-bind=none", "--kill-on-bad-exit=0", "--no-kill"]
    # By which address the others see this machine, whatever it takes for its own.
    asked = [*step, "--nodes=1", "--ntasks=1", "printenv", "SLURM_LAUNCH_NODE_IPADDR"]
    seen = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    if not seen:
        raise Halted("srun does not reach the other machines of this job; see what it says above")
    node.allow_open_files()
    scratch.remove_dead()
    unused = ["--include-dashboard=false", "--include-log-monitor=false", "--no-monitor"]
    ports = ["--port=0", f"--ray-client-server-port={_free_port()}"]
    with node.ray("--head", f"--node-ip-address={seen}", *ports, *unused) as (process, address):
        end = time.monotonic() + START_SECONDS
        while not address.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise Halted("Ray does not start on the first machine of this job; see what it says")
            time.sleep(0.1)
        head = address.read_text()
        joining = [*step, f"--nodes={others}", f"--ntasks={others}", sys.executable, "-m", "search.cluster.node"]
        steps = subprocess.Popen([*joining, head, folder])
        try:
            yield head
        finally:
            steps.send_signal(signal.SIGUSR1)  # srun hands it on; of TERM it makes KILL
            with suppress(subprocess.TimeoutExpired):
                steps.wait(2 * node.END_SECONDS)
            steps.kill()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def _epochs(folder: str) -> int | None:
    """How many the search of the job's study has on record; None before it has begun, in the finals, or if unknown."""
    try:
        study = Study.open(os.environ["SLURM_JOB_NAME"], output=folder)
    except (InputError, Halted):
        return None
    return None if study.finals else sum(len(trial.curve) for trial in study.trials)


def _requeue(job: str) -> None:
    node.tell("the time of this job is over; it goes back into the queue, and continues the study")
    ended = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if ended.returncode:
        cause = " ".join(ended.stderr.split())
        node.tell(f"Slurm does not take it back ({cause}); the same command continues the study")


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except Halted as cause:
        node.tell(cause.sentence)
        sys.exit(1)
