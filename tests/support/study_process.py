"""Runs `python -m search.run` as a user does: a process of its own, the whole service real."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[2]
_started: list["subprocess.Popen[bytes]"] = []
STUDY = {
    "name": "tiny",
    "data": {"name": "digits", "limit": 300},
    "train": {"epochs": 3, "batch_size": 32, "crop_padding": 1, "flip": False},
    "space": {
        "net.depth": [8],
        "net.version": ["v1", "v2"],
        "net.shortcut": ["identity", "none", "shortcut_only_gate"],
        "net.gate_bias": [-6, 0],
        "train.lr": {"low": 0.02, "high": 0.2, "log": True},
    },
    "search": {"trials": 6, "first_rung": 1, "reduction": 2},
    "finals": {"top": 0},
}


def command(folder: Path, *flags: str, **changes: object) -> list[str]:
    """The command for a small study in `folder`, with sections of it changed."""
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(STUDY | changes))
    return [sys.executable, "-m", "search.run", file.name, "--output", "results", *flags]


def run(
    folder: Path, arguments: Sequence[str], shell: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """To its end, with `folder` as the working directory; `shell`: environment, if not that of this process.

    Of standard error what `outcome` leaves.
    """
    environment = {**(shell or os.environ), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    ended.stderr = outcome(ended.stderr)
    return ended


def outcome(errors: str) -> str:
    """What was printed on standard error, without the lines that told how long something takes."""
    return re.sub(r"^.* \(\d+ s\)\n", "", errors, flags=re.MULTILINE)


def start(
    folder: Path, arguments: Sequence[str], shell: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], Path]:
    """In the background; with the file in which it prints. If a test fails, conftest.py ends it."""
    log = folder / "log"
    environment = {**(shell or os.environ), "PYTHONPATH": str(ROOT)}
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
    _started.append(process)
    return process, log


def end_all() -> None:
    """Kills what `start` started and what runs still, with all that is below it."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()


def wait_until(
    condition: Callable[[], bool],
    process: subprocess.Popen[bytes],
    log: Path,
    seconds: float = 240,
    pause: float = 0.02,
) -> None:
    """Until `condition` holds while `process` runs; fails with what it printed."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended early: {log.read_text()}"
        assert time.monotonic() < end, f"nothing after {seconds} s: {log.read_text()}"
        time.sleep(pause)


def wait_until_ended(family: Sequence[psutil.Process], seconds: float = 60) -> None:
    """Until none of these processes runs; what nobody has collected yet has ended."""
    end = time.monotonic() + seconds
    while left := [process for process in family if _runs(process)]:
        assert time.monotonic() < end, f"still there after {seconds} s: {left}"
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def listening(process: subprocess.Popen[bytes]) -> set[str]:
    """Addresses on which the process and all below it listen."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    found: set[str] = set()
    for member in family:
        try:
            sockets = member.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        found |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    return found
