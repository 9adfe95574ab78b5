"""Trials of two processes each, through a real Ray and a real ledger; a process is killed in the middle."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest

from search.execution import host
from tests.support.data_parallel import EPOCHS
from tests.support.journal import trials
from tests.support.simulated import stored
from tests.support.study_process import wait_until

ROOT = Path(__file__).parents[2]


def study(folder: Path, kill: str | None = None) -> tuple[list[optuna.trial.FrozenTrial], str]:
    """Its trials and what it printed; once an epoch is on record, the process of this name is killed."""
    environment = os.environ | host._ALWAYS | host._HERE | {"PYTHONPATH": str(ROOT)}  # Ray reads it when it is imported
    log = folder / "log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "tests.support.data_parallel", str(folder)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    if kill:
        wait_until(lambda: bool(reported(folder) and named(process.pid, kill)), process, log)
        (victim,) = named(process.pid, kill)
        victim.kill()
    assert process.wait(300) == 0, log.read_text()
    return stored(folder).trials, log.read_text()


def reported(folder: Path) -> bool:
    """Whether an epoch is on record."""
    return any(trial.intermediate_values for trial in trials(folder))


def named(pid: int, name: str) -> list[psutil.Process]:
    family = psutil.Process(pid).children(recursive=True)
    return [process for process in family if (process.cmdline() or [""])[0].startswith(name)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[optuna.trial.FrozenTrial]:
    return study(tmp_path_factory.mktemp("alone"))[0]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("victim", ["ray::Peer", pytest.param("ray::ResourceTrainable", marks=pytest.mark.nightly)])
def test_a_process_that_is_killed_costs_no_epoch(
    victim: str, alone: list[optuna.trial.FrozenTrial], tmp_path: Path
) -> None:
    killed, printed = study(tmp_path, victim)
    assert "goes on from its last checkpoint in another" in printed
    assert [len(trial.intermediate_values) for trial in killed] == [EPOCHS, EPOCHS]
    for mine, theirs in zip(killed, alone, strict=True):
        assert mine.params == theirs.params
        assert mine.intermediate_values == theirs.intermediate_values, "to the bit"
    assert np.mean([trial.intermediate_values[EPOCHS] for trial in alone]) < 50, "guessing has 90 %"
