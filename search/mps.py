"""NVIDIA's multi-process service (MPS), under which a GPU runs kernels of several processes at once.

A service that runs already is used, and left alone. Otherwise the first process of this machine that shares a GPU
starts one for its user, and with it a keeper, a process that ends the service after the last of those that share.
What tells the keeper is a lock: the system gives it back, whatever has ended its process.

The keeper is `python -m search.mps CONTROL PARENT`; it imports neither torch nor Ray.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from search.storage import scratch

CONTROL = "nvidia-cuda-mps-control"  # starts the service with -d, and tells it what it reads
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
USUAL = "/tmp/nvidia-mps"  # where CUDA looks for a service without PIPES
SOCKET = 107  # bytes of a socket's path at the most (sys/un.h); the service has names of up to 30 in its folder
ENABLED = 133  # CU_DEVICE_ATTRIBUTE_MPS_ENABLED of cuda.h; a driver that does not know it has an error
STARTING, USING = "mps-starting.lock", "mps-using.lock"  # in this user's folder; the second holds the folder of PIPES
ANSWER = 60.0  # seconds for each call of the program; the first one starts a server on all GPUs
ENDING = 10.0  # seconds that a service has to end by itself

_using: list[int] = []  # open for the life of this process
_joined = False


def joined() -> bool:
    """Whether this process is under a service: a fault of a GPU ends all that share it."""
    return _joined


def join() -> str | None:
    """Puts this process, which has not touched CUDA yet, under a service of its machine; starts one where none runs.

    Returns why that cannot be, in a clause.
    """
    global _joined
    failed = _join()
    _joined = failed is None
    return failed


def _join() -> str | None:
    control = shutil.which(CONTROL)
    if control is None:
        return f"{CONTROL}, which comes with NVIDIA's driver, is not installed"
    for pipes in (os.environ.get(PIPES), USUAL):
        if pipes and _answers(control, pipes):
            os.environ[PIPES] = pipes
            return None
    parent = _parent()
    home = scratch.home(parent)
    if home is None:
        return f"its folder in {parent} belongs to another user"
    with _locked(home / STARTING):
        scratch.remove_dead(parent)  # and a service whose keeper was killed
        using = os.open(home / USING, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(using, fcntl.LOCK_SH)  # waits while the keeper ends a service
        pipes = os.pread(using, SOCKET, 0).decode()
        failed = None if pipes and _answers(control, pipes) else _start(control, parent)
        if failed:
            os.close(using)
            return failed
        os.environ[PIPES] = os.pread(using, SOCKET, 0).decode()
    _using.append(using)
    return None


def runs(card: int = 0) -> bool:
    """Whether this process shares the GPU of this number with kernels of others, once it has joined a service."""
    found = ctypes.c_int()
    driver = ctypes.CDLL("libcuda.so.1")
    failed = driver.cuInit(0) or driver.cuDeviceGetAttribute(ctypes.byref(found), ENABLED, card)
    return not failed and bool(found.value)


def _parent() -> Path | None:
    """Of this user's folder, as `scratch.home` takes it: the usual one, where paths of sockets are short enough."""
    home = scratch.home()
    return None if home is not None and len(os.fsencode(home / "12345678" / "p")) + 30 < SOCKET else Path("/tmp")


@contextmanager
def _locked(path: Path) -> Generator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _answers(control: str, pipes: str) -> bool:
    return Path(pipes).is_dir() and _tell(control, os.environ | {PIPES: pipes}, "get_server_list")


def _tell(control: str, environment: dict[str, str], command: str) -> bool:
    """Whether the service has taken this command."""
    try:
        ran = subprocess.run(
            [control], env=environment, input=f"{command}\n".encode(), capture_output=True, timeout=ANSWER
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.returncode == 0


def _start(control: str, parent: Path | None) -> str | None:
    """Starts a keeper, which starts a service; returns why it could not, else None."""
    found = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", __spec__.name, control, str(parent or "")]
    with subprocess.Popen(
        command,
        env=os.environ | found,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
    if said == "\n":
        return None
    return f"NVIDIA's MPS does not start ({said.strip() or 'what starts it died'})"


def keep(control: str, parent: Path | None) -> str | None:
    """Starts a service in new folders, prints an empty line, and ends the service once no process uses it.

    Returns why no service started, else None.
    """
    home = scratch.home(parent)
    assert home is not None
    using = os.open(home / USING, os.O_RDWR)
    with scratch.folder(parent) as folder:
        # Processes count the GPUs that the service sees: Ray has given them the numbers of all.
        environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        for name, short in ((PIPES, "p"), (LOGS, "l")):
            environment[name] = str(folder / short)
            (folder / short).mkdir(mode=0o700)
        try:
            failed = _serve(control, environment, folder / "said")
            if failed:
                return failed
            os.truncate(using, 0)
            os.pwrite(using, environment[PIPES].encode(), 0)
            print(flush=True)  # noqa: T201  to `_start`
            fcntl.flock(using, fcntl.LOCK_EX)
        finally:
            _tell(control, environment, "quit -t 5")
            end = time.monotonic() + ENDING
            while _answers(control, environment[PIPES]) and time.monotonic() < end:
                time.sleep(0.05)
            scratch.end_writers(folder)  # of its logs: it did not end
    return None


def _serve(control: str, environment: dict[str, str], said: Path) -> str | None:
    """Starts the service; or says why it does not serve a process on this machine's first GPU."""
    with said.open("w+") as file:  # no pipe: what stays behind would keep it open
        try:
            started = subprocess.run(
                [control, "-d"], env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=ANSWER
            )
            probe = f"from {__spec__.name} import runs; raise SystemExit(not runs())"
            if not started.returncode:
                probed = subprocess.run(
                    [sys.executable, "-c", probe], env=environment, stdout=file, stderr=file, timeout=ANSWER
                )
                return "it serves no process on this machine's GPU" if probed.returncode else None
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        file.seek(0)
        lines = file.read().strip().splitlines()
    return lines[0] if lines else f"exit status {started.returncode}"


if __name__ == "__main__":
    if os.fork():  # Ray kills the children of a worker that ends
        os._exit(0)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    print(keep(sys.argv[1], Path(sys.argv[2]) if sys.argv[2] else None) or "")  # noqa: T201  to `_start`
