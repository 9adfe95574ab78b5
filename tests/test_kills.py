"""`kill -9` of the driver at random instants, then the same command until it is done: the study is whole.

`make test-long` kills a few times; `make kills` 20 times each of three studies.
"""

import logging
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.empty_database import tracked
from tests.study_process import command, run, start
from tests.whole import assert_whole

pytestmark = [pytest.mark.slow, pytest.mark.long]
log = logging.getLogger(__name__)
START, WORK = 12.0, 2.0  # seconds: what a start takes at most on an idle machine; a dozen epochs


def arguments(folder: Path, seed: int, *flags: str) -> list[str]:
    train = {"epochs": 6, "batch_size": 8, "flip": False}
    return command(tracked(folder), "--trials", "12", "--seed", str(seed), *flags, train=train)


def results(report: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Of each trial all that does not tell the time."""
    return [(t["number"], t["state"], t["params"], t["epochs"], t["curve"], t["reason"]) for t in report["trials"]]


def epochs(folder: Path) -> int:
    """How many are on record."""
    outbox = folder / "results" / "tiny" / "outbox.jsonl"
    return outbox.read_text().count('"kind":"epoch"') if outbox.exists() else 0


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
