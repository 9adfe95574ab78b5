"""`kill -9` of the driver at random instants, then the same command until it is done: the study is whole.

`make test` kills a few times; `make kills` 20 times each of three studies.
"""

import logging
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.study_process import command, run, start
from tests.whole import assert_whole

pytestmark = pytest.mark.slow
log = logging.getLogger(__name__)
START, WORK = 12.0, 10.0  # seconds: a start takes about so long here, and what is killed after it so much longer


def arguments(folder: Path, seed: int, *flags: str) -> list[str]:
    train = {"epochs": 6, "batch_size": 8, "flip": False}
    return command(folder, "--trials", "12", "--seed", str(seed), *flags, train=train)


def results(report: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Of each trial all that does not tell the time."""
    return [(t["number"], t["state"], t["params"], t["epochs"], t["curve"], t["reason"]) for t in report["trials"]]


def kill_until_done(folder: Path, line: list[str], instants: random.Random, kills: int) -> tuple[int, int]:
    """The same command, killed `kills` times, each at any time of its start or work; then to its end.

    It is given again at once, while workers that the one before had started may still be at work.
    Returns how many kills hit a driver that was still at work, and how many of these before a trial had ended.
    """
    hit = early = 0
    for _ in range(kills):
        instant = instants.uniform(0, START + WORK)
        process, printed = start(folder, line)
        try:
            process.wait(instant)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            hit, early = hit + 1, early + ("] trial" not in printed.read_text())
        assert process.wait() in (-signal.SIGKILL, 0), printed.read_text()
    ended = run(folder, line)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return hit, early


@pytest.mark.timeout(3000)
def test_a_driver_killed_at_random_instants(kill_seed: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Two trials at once: each is, bit for bit, what its specification gives alone."""
    kills = request.config.getoption("--kills")
    hit, early = kill_until_done(tmp_path, arguments(tmp_path, kill_seed), random.Random(kill_seed), kills)
    assert_whole(tmp_path, 12)
    log.warning("seed %d: %d of %d kills hit, %d of them before a trial had ended", kill_seed, hit, kills, early)


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
    hit, early = kill_until_done(tmp_path / "killed", same, random.Random(100 + kill_seed), kills)
    killed, alone = (assert_whole(tmp_path / name, 12) for name in ("killed", "alone"))
    assert results(killed) == results(alone)
    log.warning("seed %d: %d of %d kills hit, %d of them before a trial had ended", kill_seed, hit, kills, early)
