"""Every sampler with every scheduler, through the product's searcher and storage; only training is made up."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

from search.records import TrialRecord, TrialState
from search.spec import Sampler, Scheduler
from tests.support.simulated import EPOCHS, SIZE, Process, Setting, play, short, stored

ROOT = Path(__file__).parents[2]
PAIRS = [(sampler, scheduler) for sampler in Sampler for scheduler in Scheduler]
pytestmark = pytest.mark.slow
every_pair = pytest.mark.parametrize(("sampler", "scheduler"), PAIRS)


Studies = dict[tuple[Sampler, Scheduler], tuple[optuna.Study, list[TrialRecord]]]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    """Each pair with one worker, all but the storage made anew after every result; what Optuna reads, and the records.

    The storage is a journal with `asha`, and in memory with the others, which is faster.
    """
    made: Studies = {}
    for sampler, scheduler in PAIRS:
        folder = tmp_path_factory.mktemp("study") if scheduler is Scheduler.ASHA else None
        where = folder or InMemoryStorage()
        records = play(short(sampler, scheduler), where, anew=True)
        made[sampler, scheduler] = (stored(where), records)
    return made


ELSEWHERE = """
import json, os, sys
import tests.optimize.test_strategy as t
from search.records.journal import _Journal as Journal
from pathlib import Path
from search.spec.sections import Sampler, Scheduler
append, killed_at = Journal.append_logs, []
def killed(setting, folder, writes):  # whether the process died before this write, for it had as many to do
    if not (child := os.fork()):
        left = [writes]
        def counted(self, logs):
            if not left[0]:
                os.kill(os.getpid(), 9)
            left[0] -= 1
            append(self, logs)
        Journal.append_logs = counted
        t.play(setting, folder)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 9
for sampler, scheduler in ((Sampler.RANDOM, Scheduler.ASHA), (Sampler.GRID, Scheduler.ASHA)):
    setting, writes, going = t.short(sampler, scheduler, trials=6), 0, True
    killed_at.append([])
    while going:
        folder = Path(sys.argv[1]) / sampler / str(writes)
        folder.mkdir(parents=True)
        going = killed(setting, folder, writes)
        killed_at[-1].append(t.told(t.play(setting, folder)))
        writes += 5
pairs = {f"{a} {b}": t.told(t.played(a, b)) for a, b in t.PAIRS}
print(json.dumps({"killed": killed_at, "pairs": pairs}))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By another process: each pair without interruption; and two of them killed here and there, then continued."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path_factory.mktemp("killed"))]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def played(sampler: Sampler, scheduler: Scheduler, workers: int = 1, **changes: Any) -> list[TrialRecord]:
    return play(short(sampler, scheduler, **changes), InMemoryStorage(), workers)


def told(records: list[TrialRecord]) -> list[str]:
    """Everything that is known of each trial."""
    return [repr(record) for record in records]


@every_pair
def test_the_same_seed_is_the_same_study(
    sampler: Sampler, scheduler: Scheduler, studies: Studies, elsewhere: dict[str, Any]
) -> None:
    _, records = studies[sampler, scheduler]
    assert elsewhere["pairs"][f"{sampler} {scheduler}"] == told(records)


@pytest.mark.parametrize("sampler", [Sampler.RANDOM, Sampler.GRID])
def test_another_seed_is_another_study(sampler: Sampler, studies: Studies) -> None:
    _, records = studies[sampler, Scheduler.ASHA]
    other = played(sampler, Scheduler.ASHA, seed=4)
    assert [r.params for r in other] != [r.params for r in records]


@every_pair
def test_what_the_storage_holds(sampler: Sampler, scheduler: Scheduler, studies: Studies) -> None:
    """Each configuration once; parameters whose conditions hold, four levels deep; every end."""
    study, records = studies[sampler, scheduler]
    assert [r.number for r in records] == list(range(short(sampler, scheduler).search.trials))
    assert len({json.dumps(r.params, sort_keys=True) for r in records}) == len(records) < SIZE
    assert {t.params.get("train.mixup") for t in study.trials} > {None}, "with and without, as its conditions say"
    assert TrialState.COMPLETE in {r.state for r in records}
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "diverged": "PRUNED", "failed": "FAIL", "infeasible": "FAIL"}
    for trial, record in zip(study.trials, records, strict=True):
        asked = {"net.version", "train.lr", "train.batch_size"}
        if trial.params["net.version"] == "v2":
            asked |= {"net.shortcut"}
        if trial.params.get("net.shortcut") == "dropout":
            asked |= {"net.dropout"}
        if trial.params.get("net.dropout") == 0.5:
            asked |= {"train.mixup"}
        assert set(trial.params) == asked
        assert {path: record.params[path] for path in asked} == trial.params
        assert record.params["train.mixup"] == trial.params.get("train.mixup", 0.0), "trained with the default"
        assert record.params["net.shortcut"] == trial.params.get("net.shortcut", "identity")
        assert trial.state.name == states[record.state.value]
        assert trial.intermediate_values == record.curve
        complete = record.state is TrialState.COMPLETE
        assert complete == (record.epochs == EPOCHS and record.curve[EPOCHS] < 100) == (not record.reason)
        assert not complete or trial.value == record.curve[EPOCHS]


@every_pair
def test_a_space_is_exhausted_by_workers_at_once(sampler: Sampler, scheduler: Scheduler) -> None:
    """Six configurations, three workers: each once, however they end; then what is best still trains to its end."""
    section = {"train.lr": [0.02, 0.1], "train.batch_size": [16, 32, 64]}
    asked = short(sampler, scheduler, trials=100, reduction=3)
    process = Process(Setting(asked.search, EPOCHS, section), InMemoryStorage(), 3)
    while process.step():
        pass
    process.recorder.close()
    ledger = process.recorder.ledger
    assert {(r.params["train.lr"], r.params["train.batch_size"]) for r in ledger.records} == {
        (lr, batch) for lr in (0.02, 0.1) for batch in (16, 32, 64)
    }
    assert len(ledger.records) == 6
    assert ledger.exhausted == "all 6 configurations of the space have been tried"
    assert not any(r.running for r in ledger.records)
    assert TrialState.COMPLETE in {r.state for r in ledger.records}
    assert process.recorder.plan.next() is None


def test_killed_between_two_writes(elsewhere: dict[str, Any]) -> None:
    """Before the first write, the sixth, and so on to the last, and then continued: as if nothing had happened."""
    for results in elsewhere["killed"]:
        assert len(results) >= 7
        for killed_at, result in enumerate(results):
            assert result == results[-1], f"killed before write {1 + 5 * killed_at}"
