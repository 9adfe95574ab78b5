"""`kill -9` of the driver at random instants, then the same command until it is done: the study is whole.

`make test-long` kills once; `make kills` 20 times each of three studies, and of one in its second half.
"""

import json
import logging
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import concluded
from tests.support.empty_database import tracked
from tests.support.fixtures import run_here
from tests.support.journal import reported
from tests.support.study_process import command, run, start, wait_until
from tests.support.whole import assert_whole

pytestmark = [pytest.mark.slow, pytest.mark.long]
log = logging.getLogger(__name__)
START, WORK = 12.0, 2.0  # seconds: what a start takes at most on an idle machine; a dozen epochs
FINALS = 4.0  # seconds: four trainings, two at once


def arguments(folder: Path, seed: int, *flags: str) -> list[str]:
    train = {"epochs": 6, "batch_size": 8, "flip": False}
    return command(tracked(folder), "--trials", "12", "--seed", str(seed), *flags, train=train)


def results(report: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Of each trial all that does not tell the time."""
    return [(t["number"], t["state"], t["params"], t["epochs"], t["curve"], t["reason"]) for t in report["trials"]]


def epochs(folder: Path) -> int:
    """How many are on record."""
    return len(reported(folder / "results" / "tiny"))


def kill_until_done(folder: Path, line: list[str], instants: random.Random, kills: int) -> tuple[int, int]:
    """The same command, killed `kills` times, now in its start, now after its first epoch; then to its end.

    It is given again at once, while workers that the one before had started may still be at work.
    Returns how many kills hit a driver that had not ended, and how many of these one that had trained an epoch.
    """
    hit = at_work = 0
    for _ in range(kills):
        starting, known = instants.random() < 0.4, epochs(folder)
        process, printed = start(folder, line)
        while not starting and process.poll() is None and epochs(folder) == known:
            time.sleep(0.01)
        try:
            process.wait(instants.uniform(0, START if starting else WORK))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            hit, at_work = hit + 1, at_work + (epochs(folder) > known)
        assert process.wait() in (-signal.SIGKILL, 0), printed.read_text()
    ended = run(folder, line)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return hit, at_work


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_a_driver_killed_at_random_instants(kill_seed: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Two trials at once: each is, bit for bit, what its specification gives alone."""
    kills = request.config.getoption("--kills")
    hit, at_work = kill_until_done(tmp_path, arguments(tmp_path, kill_seed), random.Random(kill_seed), kills)
    assert_whole(tmp_path, 12)
    log.warning("seed %d: %d of %d kills hit, %d of them after an epoch", kill_seed, hit, kills, at_work)


@pytest.mark.timeout(3000)
def test_one_trial_at_a_time_the_whole_study_is_the_same(
    kill_seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With one worker the order of results is fixed: proposals, stops and errors are those of a study left alone."""
    kills = request.config.getoption("--kills")
    (tmp_path / "alone").mkdir()
    (tmp_path / "killed").mkdir()
    one = arguments(tmp_path / "alone", kill_seed, "--max-concurrent", "1")
    assert run(tmp_path / "alone", one).returncode == 0
    same = arguments(tmp_path / "killed", kill_seed, "--max-concurrent", "1")
    hit, at_work = kill_until_done(tmp_path / "killed", same, random.Random(100 + kill_seed), kills)
    killed, alone = (assert_whole(tmp_path / name, 12) for name in ("killed", "alone"))
    assert results(killed) == results(alone)
    log.warning("seed %d: %d of %d kills hit, %d of them after an epoch", kill_seed, hit, kills, at_work)


PHASES = ("writing", "registry", "export", "report", "finals")  # of the second half; the first is a part of the third


class End:
    """How far the end of a study has come since this was made, as its folder shows it to anybody."""

    def __init__(self, folder: Path) -> None:
        self._study = folder / "results" / "tiny"
        self._known, self._report = len(self._lines()), self._written()

    def phase(self) -> str:
        """One of PHASES, `start` before them or `after` them."""
        new = self._lines()[self._known :]
        said = [json.loads(line)["user_attr"]["conclusion"] for line in new if b'"conclusion":' in line]
        if said and said[-1]["champion"]:
            cursor = json.loads((self._study / "mlflow.json").read_text())
            sent = cursor["sent"].get("conclusion", ["", 0, ""])[2]
            return "after" if sent.endswith(f" {said[-1]['time_ms']}") else "registry"
        if any(self._study.glob(".champion.*")):
            return "writing"
        written = self._written()
        if {"report.json", "report.md", "report.html"} <= {name for name, _ in set(written) - set(self._report)}:
            return "export"
        if written != self._report:
            return "report"
        return "finals" if any(b'"epoch:' in line for line in new) else "start"

    def reached(self, phase: str) -> bool:
        order = ("start", "finals", "report", "export", "writing", "registry", "after")
        return order.index(self.phase()) >= order.index(phase)

    def _lines(self) -> list[bytes]:
        whole = (self._study / "optuna.journal").read_bytes().rpartition(b"\n")
        return (whole[0] + whole[1]).splitlines(keepends=True)

    def _written(self) -> list[tuple[str, int]]:
        """Report files, also those that are being written."""
        with suppress(FileNotFoundError):  # renamed at this moment
            return sorted((p.name, p.stat().st_mtime_ns) for p in self._study.glob("*report.*"))
        return []


def durations(folder: Path, line: list[str]) -> dict[str, float]:
    """Seconds of each phase of a command that is left alone."""
    end = End(folder)
    spent: dict[str, float] = dict.fromkeys((*PHASES, "start", "after"), 0.0)
    process, printed = start(folder, line)
    last = time.monotonic()
    while process.poll() is None:
        time.sleep(0.002)
        now = time.monotonic()
        spent[end.phase()] += now - last
        last = now
    assert process.wait() == 0, printed.read_text()
    return spent


def restored(kept: Path, folder: Path) -> None:
    """The same folder again: a study belongs to its path."""
    shutil.rmtree(folder / "results")
    shutil.copytree(kept, folder / "results")


def killed(folder: Path, line: list[str], phase: str, wait: float) -> tuple[str, list[psutil.Process]]:
    """Kills the command `wait` seconds into a phase: in which one it was, and the processes that it had started."""
    end = End(folder)
    process, printed = start(folder, line)
    wait_until(lambda: end.reached(phase), process, printed, pause=0.001)
    with suppress(subprocess.TimeoutExpired):
        process.wait(wait)
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0), printed.read_text()
    return end.phase(), below


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_driver_killed_in_the_second_half(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In its finals, its report, its export or the calls to the registry: the same command ends with all of them."""
    kills: int = request.config.getoption("--kills")  # pyright: ignore[reportAssignmentType]
    instants = random.Random(2)
    searched, trained = tmp_path / "searched", tmp_path / "trained"
    alone = run(tmp_path, concluded.arguments(tmp_path, finals={"top": 0}))
    assert alone.returncode == 0, alone.stderr
    shutil.copytree(tmp_path / "results", searched)
    asked = [f"--set=finals.{name}={value}" for name, value in concluded.FINALS.items()]  # of a study that is complete
    line = [*concluded.arguments(tmp_path), *asked]
    _, left = killed(tmp_path, line, "report", 0)
    end_all(left)
    shutil.copytree(tmp_path / "results", trained)  # all trainings are over, and nothing is concluded
    lasts = durations(tmp_path, line) | {"finals": FINALS}
    log.warning("seconds of each phase: %s", {phase: round(s, 2) for phase, s in lasts.items()})
    concluded.assert_concluded(tmp_path)

    hit = Counter[str]()
    for number in range(kills):
        phase = PHASES[number % len(PHASES)]
        restored(searched if phase == "finals" else trained, tmp_path)
        where, left = killed(tmp_path, line, phase, instants.uniform(0, 0.6 * lasts[phase]))
        log.warning("kill %d, aimed at %s: it hit %s", number, phase, where)
        hit[where] += 1
        ended = run(tmp_path, line)
        end_all(left)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        concluded.assert_concluded(tmp_path)
        journal = (tmp_path / "results" / "tiny" / "optuna.journal").read_bytes()
        assert run_here(tmp_path, line).returncode == 0
        assert (tmp_path / "results" / "tiny" / "optuna.journal").read_bytes() == journal, "nothing was left to do"
    log.warning("%d kills: %s", kills, dict(hit))
    assert sum(hit.values()) - hit["after"] >= kills / 2


def end_all(processes: list[psutil.Process]) -> None:
    """Workers of a killed driver, which may still be at work."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
