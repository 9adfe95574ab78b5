"""Ray on one machine of a job of Slurm's: `python -m search.cluster.node HEAD:PORT FOLDER` joins that of the first.

What it writes is in a temporary folder of this user, and ends with it.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from search import execution
from search.storage import scratch

END_SECONDS = 10.0  # that Ray has to end by itself
ANSWER_SECONDS = 10.0  # that the head has to answer
TRIES = 3  # in a row: on a busy machine Ray takes itself for broken after half a minute
OPEN_FILES = 65_536
LAST = 2000  # characters of what Ray printed, where it has not started


@contextmanager
def ray(*flags: str) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """While it is entered, Ray runs here; yields its process, and a file that has the cluster's address once it is up.

    Where it ends before that, what it said is printed.
    """
    with execution.ray_folder() as folder:
        place, said = folder / "r", folder / "said"
        address = place / "ray_current_cluster"
        # Ray takes ports that are free, but for these: by default all of a machine's users would have the same.
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        cores = f"--num-cpus={os.environ['SLURM_CPUS_ON_NODE']}"  # Ray would count those of other jobs, too
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--temp-dir={place}", cores]
        with said.open("wb") as log:
            process = subprocess.Popen([*command, *ports, *flags], stdout=log, stderr=log)
        try:
            yield process, address
        finally:
            if process.poll() is not None and not address.exists():
                tell(f"Ray did not start on {socket.gethostname()}: {said.read_text(errors='replace')[-LAST:]}")
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()
            process.wait()
            scratch.end_writers(folder)  # Ray's agents may outlive it


def tell(sentence: str) -> None:
    """Prints a line into what the job has printed."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def allow_open_files() -> None:
    """Ray has a file open for each connection; shells allow few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def main(head: str, folder: str) -> int:
    """Joins the cluster of `head`, and joins it again when Ray has died here, until the head is gone."""
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit())
    if not Path(folder, f"slurm-{os.environ['SLURM_JOB_ID']}.out").exists():
        tell(f"{socket.gethostname()} does not see {folder}, and takes no part; give --output as a folder that it sees")
        return 2
    allow_open_files()
    scratch.remove_dead()
    failed = 0
    while failed < TRIES and _answers(head):
        with ray(f"--address={head}") as (process, address):
            process.wait()
            failed = 0 if address.exists() else failed + 1
    return int(failed > 0)


def _answers(head: str) -> bool:
    host, _, port = head.rpartition(":")
    with suppress(OSError):
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
