"""Trials that do not fit into their share of a card, through a real Ray and a real ledger."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.execution import host

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four trials, two at once; the last is too large for a half of the card."""
    folder = tmp_path_factory.mktemp("card")
    command = [sys.executable, "-m", "tests.support.fake_card", str(folder), "4", "3"]
    environment = os.environ | host._ALWAYS | host._HERE | {"PYTHONPATH": str(ROOT)}  # Ray reads it when it is imported
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()
    return folder


def attempts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "attempts").read_text().splitlines()]


def test_a_trial_too_large_for_its_share_is_infeasible(ran: Path) -> None:
    tried = {number: [a["gpus"] for a in attempts(ran) if a["number"] == number] for number in range(4)}
    assert tried == {0: [0.5], 1: [0.5], 2: [0.5], 3: [0.5]}
    storage = JournalStorage(JournalFileBackend(str(ran / "optuna.journal")))
    trials = load_study(study_name="card", storage=storage).trials
    assert [t.user_attrs["outcome"]["state"] for t in trials] == [*["complete"] * 3, "infeasible"]
    assert trials[3].user_attrs["outcome"]["reason"].endswith("resources.gpus_per_trial=1 gives a trial a whole one")
    assert [len(t.intermediate_values) for t in trials] == [2, 2, 2, 0]


def test_a_worker_trains_one_trial_after_another_and_loads_the_data_once(ran: Path) -> None:
    trained = [a for a in attempts(ran) if "loads" in a]
    workers = {a["pid"] for a in attempts(ran)}
    loads = [a["pid"] for a in trained if a["loads"]]
    assert len(loads) == len(set(loads)), "each process once"
    assert set(loads) == {a["pid"] for a in trained} <= workers
    assert len(workers) < len(attempts(ran))
