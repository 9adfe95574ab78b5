"""Trials that do not fit into their share of a card, through a real Ray and a real ledger."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.execution import host
from tests.support.simulated import stored

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.long
def test_a_trial_too_large_for_its_share_is_infeasible_and_data_are_loaded_once(tmp_path: Path) -> None:
    """Four trials, two at once; the last is too large for a half of the card."""
    command = [sys.executable, "-m", "tests.support.fake_card", str(tmp_path), "4", "3"]
    environment = os.environ | host._ALWAYS | host._HERE | {"PYTHONPATH": str(ROOT)}  # Ray reads it when it is imported
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()
    attempts = [json.loads(line) for line in (tmp_path / "attempts").read_text().splitlines()]
    assert sorted((attempt["number"], attempt["gpus"]) for attempt in attempts) == [(n, 0.5) for n in range(4)]
    loads = [attempt["pid"] for attempt in attempts if attempt["loads"]]
    assert len(loads) == len(set(loads)), "each process once"
    assert len({attempt["pid"] for attempt in attempts}) < 4, "one trains one trial after another"
    study = stored(tmp_path)
    trials, spent = study.trials, study.user_attrs
    assert 0 < spent["gpu_hours"] <= spent["elapsed"] / 3600, "two halves of one card, at most"
    assert [t.user_attrs["outcome"]["state"] for t in trials] == [*["complete"] * 3, "infeasible"]
    assert trials[3].user_attrs["outcome"]["reason"].endswith("resources.gpus_per_trial=1 gives a trial a whole one")
    assert [len(t.intermediate_values) for t in trials] == [2, 2, 2, 0]
