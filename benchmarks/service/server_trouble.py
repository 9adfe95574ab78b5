"""Studies whose MLflow server gets into trouble once their first trial has ended."""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import quartiles
from benchmarks.service.overhead import SURROUNDINGS
from tests.support.journal import Reported, reported
from tests.support.mlflow_server import Proxy, Server
from tests.support.sent import Sent, compare

WELL = "study, server well"
AFTER_THE_END = float("inf")


@dataclass(frozen=True)
class Trouble:
    """What befalls a server, and when it is over: seconds after it began."""

    begin: Callable[[Server, Proxy], None]
    end: Callable[[Server, Proxy], None]
    seconds: float


def half_fail(server: Server, proxy: Proxy) -> None:
    """Of four calls one is answered with 500 unheard, and one after it was done."""
    calls = itertools.count()
    proxy.fate = lambda method, path: ("pass", "lose", "pass", "refuse")[next(calls) % 4]


def hang(server: Server, proxy: Proxy) -> None:
    proxy.fate = lambda method, path: "hold"


def well(server: Server, proxy: Proxy) -> None:
    proxy.fate = lambda method, path: "pass"
    proxy.release.set()


TROUBLES = {
    WELL: Trouble(well, well, 0),
    "server killed, back after 60 s": Trouble(lambda s, p: s.kill(), lambda s, p: s.start(), 60),
    "server hangs for 60 s": Trouble(hang, well, 60),
    "server fails half the calls": Trouble(half_fail, well, AFTER_THE_END),
    "server gone until after the end": Trouble(lambda s, p: s.kill(), lambda s, p: s.start(), AFTER_THE_END),
}


@dataclass(frozen=True)
class Done:
    """One study, or the bare training of its trials."""

    periods: list[list[float]]  # of each trial: seconds from the end of an epoch to the end of the next
    beyond: tuple[float, ...] = ()  # of each of these: seconds of it that were neither training nor validation
    command: float = 0  # seconds from the command to its end
    sent: Sent | None = None
    disk: tuple[int, int, int] = (0, 0, 0)  # bytes a trial: checkpoints, MLflow's artifacts, records

    @property
    def median(self) -> float:
        return quartiles(list(itertools.chain(*self.periods)))[1]

    @property
    def trials(self) -> list[float]:
        """Seconds of each trial, from the end of its first epoch to that of its last."""
        return [sum(own) for own in self.periods]


def timed(reported: Sequence[Reported]) -> tuple[list[list[float]], tuple[float, ...]]:
    """`periods` and `beyond` of the trials whose epochs these are."""
    epochs: dict[int, list[tuple[float, float]]] = {}  # of each trial: end, and seconds of training and validation
    for one in reported:
        epochs.setdefault(one.number, []).append((one.time_ms / 1000, one.metrics["cost/seconds"]))
    pairs = [list(itertools.pairwise(sorted(own))) for own in epochs.values()]
    periods = [[after[0] - before[0] for before, after in own] for own in pairs]
    return periods, tuple(after[0] - before[0] - after[1] for own in pairs for before, after in own)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(described: dict[str, Any], trouble: Trouble | None) -> Done:
    """Runs the study, with a server of its own behind a proxy if there is to be trouble with one."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if trouble is None:
            return _run(described, folder, None, None, None)
        server = Server(folder)
        server.start()
        proxy = Proxy(server.url, lambda method, path: "pass")
        try:
            return _run(described | {"tracking": {"uri": proxy.url}}, folder, trouble, server, proxy)
        finally:
            proxy.close()
            server.kill()


def _run(
    described: dict[str, Any], folder: Path, trouble: Trouble | None, server: Server | None, proxy: Proxy | None
) -> Done:
    (folder / "study.yaml").write_text(yaml.safe_dump(described))
    environment = {k: v for k, v in os.environ.items() if k not in SURROUNDINGS}
    command = [sys.executable, "-m", "search.run"]
    results = ["--output", str(folder / "results")]
    kept = folder / "results" / described["name"]
    began, troubled = time.monotonic(), None
    with (folder / "log").open("w") as log:
        line = [*command, str(folder / "study.yaml"), *results]
        process = subprocess.Popen(line, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            if trouble and server and proxy:
                if troubled is None and "] trial" in (folder / "log").read_text():
                    trouble.begin(server, proxy)
                    troubled = time.monotonic()
                elif troubled and time.monotonic() > troubled + trouble.seconds:
                    trouble.end(server, proxy)
                    trouble = None
            try:
                process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
    seconds = time.monotonic() - began
    if process.returncode:
        sys.exit(f"error: {' '.join(line)} ended with {process.returncode}:\n{(folder / 'log').read_text()}")
    trials = described["search"]["trials"]
    if server is None or proxy is None:
        records = sum(path.stat().st_size for path in kept.iterdir() if path.is_file())
        disk = (size_of(kept / "trials"), size_of(folder / "results" / "mlartifacts"), records)
        checkpoints, artifacts, records = (part // trials for part in disk)
        return Done(*timed(reported(kept)), seconds, None, (checkpoints, artifacts, records))
    if trouble:
        trouble.end(server, proxy)
    subprocess.run([*command, described["name"], *results, "--sync"], env=environment, check=True, capture_output=True)
    return Done(*timed(reported(kept)), seconds, compare(kept, server.url))
