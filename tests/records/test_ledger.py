"""The study's storage: continued, killed at bad moments, repeatable, and read back by Optuna alone."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.records import Asked, Ledger, Spent, TrialState, open_storage
from search.spec import LimitSpec, appraise
from search.spec.space import make
from tests.support.epochs import epoch_of

ROOT = Path(__file__).parents[2]
FIXED: dict[str, Any] = {"net.in_channels": 1, "net.num_classes": 10, "net.depth": 8}
SPACE: dict[str, Any] = {
    "net.version": ["v1", "v2"],
    "net.shortcut": ["identity", "dropout"],
    "net.dropout": {"low": 0.1, "high": 0.5},
    "train.lr": {"low": 0.01, "high": 0.5, "log": True},
    "train.batch_size": {"low": 16, "high": 64, "step": 16},
}


def opened(folder: Path) -> Ledger:
    limits = LimitSpec()
    storage = open_storage(folder / "optuna.journal")
    return Ledger(storage, "study", make(SPACE, FIXED), lambda trial: appraise(trial, (8, 8), limits))


def asked(ledger: Ledger, **chosen: Any) -> Asked:
    """A new trial; `net.shortcut` is identity where nothing else is said."""
    given = {"net.version": "v1", "net.shortcut": "identity", "train.lr": 0.1, "train.batch_size": 32} | chosen
    trial = ledger.add(FIXED | given)
    assert trial is not None
    return trial


def stored(folder: Path) -> optuna.Study:
    """The same study, read by Optuna."""
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="study", storage=storage)


def in_a_process(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Runs `body` in a process of its own with `folder`, this module as `t`, and an opened ledger."""
    lines = "import os, signal, sys; from pathlib import Path; from tests.records import test_ledger as t\n"
    lines += "folder = Path(sys.argv[1])\n"
    lines += "ledger = t.opened(folder)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", lines + body, str(folder)], env=environment, capture_output=True, text=True, cwd=folder
    )


KILL = "os.kill(os.getpid(), signal.SIGKILL)\n"


def test_optuna_reads_what_happened(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for version in ("v1", "v2", "v1", "v2", "v1"):
        asked(ledger, **{"net.version": version})
    ledger.report(0, 1, 40.0, epoch_of(1.0, 80.0))
    ledger.report(0, 2, 20.5, epoch_of(1.5, 60.0))
    ledger.finish(0, TrialState.COMPLETE)
    ledger.report(1, 1, 55.0, epoch_of(1.0, 80.0))
    ledger.finish(1, TrialState.PRUNED, "rank 2 of 2")
    ledger.report(2, 1, math.nan, epoch_of(1.0, 80.0))
    ledger.finish(2, TrialState.DIVERGED, "loss became NaN")
    ledger.finish(3, TrialState.FAILED, "it broke")
    ledger.finish(4, TrialState.INFEASIBLE, "out of memory")
    trials = stored(tmp_path).trials
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED", "PRUNED", "FAIL", "FAIL"]
    assert trials[0].intermediate_values == {1: 40.0, 2: 20.5}
    assert trials[0].value == 20.5
    assert trials[1].intermediate_values == {1: 55.0}
    assert trials[2].intermediate_values == {1: 100.0}, "a diverged trial is the worst evidence, not none"
    assert stored(tmp_path).best_trial.number == 0
    assert trials[4].constraints == {"memory": 1.0}, "what does not fit into memory violates a limit"
    assert not any(t.constraints for t in trials[:4])
    # basic net of depth 8 on one channel: 9*16 + 2*9*16*16 + 9*16*32 + 9*32*32 + 9*32*64 + 9*64*64 weights of
    # convolutions, 2*(3*16 + 2*32 + 2*64) of normalisations (v1), 64*10 + 10 of the classifier
    v1 = [t for t in trials if t.params["net.version"] == "v1"]
    assert len(v1) == 3
    assert {t.user_attrs["cost"]["params"] for t in v1} == {144 + 4608 + 4608 + 9216 + 18432 + 36864 + 480 + 650}


def test_reopened_is_the_same(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for _ in range(3):
        asked(ledger)
    ledger.report(0, 1, 40.0, epoch_of(1.0, 90.0))
    ledger.report(0, 2, 30.0, epoch_of(0.5, 60.0))
    ledger.finish(0, TrialState.COMPLETE)
    ledger.report(1, 1, 33.0, epoch_of(0.25, 80.0))
    ledger.report(2, 1, math.inf, epoch_of(0.25, 80.0))
    ledger.finish(2, TrialState.DIVERGED, "loss became infinite")
    ledger.spend(Spent(12.5))
    again = opened(tmp_path)
    assert again.records == ledger.records
    assert [r.state.value for r in again.records] == ["complete", "running", "diverged"]
    assert again.records[0].seconds == 1.5
    assert again.records[0].images_per_s == 80.0, "90 images in the first second, 30 in half of the next"
    assert again.records[2].reason == "loss became infinite"
    (tmp_path / "another").mkdir()
    assert again.key == ledger.key != opened(tmp_path / "another").key
    assert again.spent.seconds == 12.5
    again.spend(Spent(1))
    assert opened(tmp_path).spent.seconds == 13.5


def test_running_trials_go_on_as_they_were(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    with_rate = {"net.shortcut": "dropout", "net.dropout": 0.25}
    trials = [asked(ledger, **with_rate), asked(ledger, **{"train.lr": 0.0123456789012345})]
    ledger.report(0, 1, 50.0, epoch_of(1.0, 80.0))
    again = opened(tmp_path)
    assert [again.asked(0), again.asked(1)] == trials
    again.report(0, 1, 99.0, epoch_of(1.0, 80.0))  # told twice: the first stays
    again.report(0, 2, 40.0, epoch_of(1.0, 80.0))
    again.finish(0, TrialState.COMPLETE, "first")
    again.finish(0, TrialState.PRUNED, "second")  # the first stays
    for record in (again.record(0), opened(tmp_path).record(0)):
        assert (record.state, record.reason) == (TrialState.COMPLETE, "first")
    assert again.record(0).curve == {1: 50.0, 2: 40.0}
    assert stored(tmp_path).trials[0].intermediate_values == {1: 50.0, 2: 40.0}
    assert asked(again).number == 2
    assert [r.number for r in opened(tmp_path).records if r.running] == [1, 2]


def test_what_waits_is_remembered_until_its_next_epoch(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for number in range(3):
        asked(ledger)
        ledger.report(number, 1, 50.0 + number, epoch_of(1.0, 80.0))
    ledger.hold(1)
    ledger.hold(2)
    assert opened(tmp_path).waiting == ledger.waiting == {1, 2}
    ledger.report(1, 2, 40.0, epoch_of(1.0, 80.0))
    ledger.finish(2, TrialState.PRUNED, "held")
    assert opened(tmp_path).waiting == ledger.waiting == set()
    ledger.hold(1)
    assert opened(tmp_path).waiting == {1}


def test_out_of_memory_is_a_trial_and_beyond_the_limits_is_none(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    asked(ledger)
    ledger.finish(0, TrialState.INFEASIBLE, "out of memory")
    for record in (ledger.record(0), opened(tmp_path).record(0)):
        assert (record.refused, record.out_of_memory, record.violation) == (False, True, 1.0)
    # a network of 75,000 parameters, see above
    few = LimitSpec(params=50_000)
    strict = Ledger(
        open_storage(tmp_path / "optuna.journal"),
        "study",
        make(SPACE, FIXED),
        lambda trial: appraise(trial, (8, 8), few),
    )
    chosen = FIXED | {"net.version": "v1", "net.shortcut": "identity", "train.lr": 0.1, "train.batch_size": 32}
    assert strict.add(chosen) is None
    for record in (strict.record(1), opened(tmp_path).record(1)):
        assert (record.state, record.refused, record.out_of_memory) == (TrialState.INFEASIBLE, True, False)
        assert record.violation == pytest.approx(math.log(75_002 / 50_000))
        assert record.reason == "params 75,002 above the limit of 50,000"
    refused = stored(tmp_path).trials[1]
    assert (refused.state.name, refused.constraints["params"]) == ("FAIL", record.violation)


def test_killed_between_the_two_writes_of_an_ending(tmp_path: Path) -> None:
    body = "t.asked(ledger); t.asked(ledger); ledger.report(0, 1, 12.5, t.epoch_of(1.0, 80.0))\n"
    body += "ledger._tell = lambda *a: None\n"
    body += "ledger.finish(1, t.TrialState.INFEASIBLE, 'out of memory')\n"  # as if it died here, and below again
    killed = in_a_process(tmp_path, body + f"ledger.finish(0, t.TrialState.COMPLETE)\n{KILL}")
    assert killed.returncode == -signal.SIGKILL
    assert [t.state.name for t in stored(tmp_path).trials] == ["RUNNING", "RUNNING"]
    again = opened(tmp_path)
    assert [r.state for r in again.records] == [TrialState.COMPLETE, TrialState.INFEASIBLE]
    assert again.records[1].out_of_memory
    assert stored(tmp_path).trials[0].value == 12.5
    assert stored(tmp_path).trials[1].constraints == {"memory": 1.0}
    assert again.records == opened(tmp_path).records


def test_killed_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is left locked, at a relative path as by default, and its last line is half there."""
    body = f"os.fsync = lambda fd: {KILL.strip()}\nt.asked(ledger)\n"
    assert in_a_process(tmp_path, "t.asked(ledger)\n" + body).returncode == -signal.SIGKILL
    journal = tmp_path / "optuna.journal"
    assert (tmp_path / "optuna.journal.lock").is_symlink()
    (tmp_path / "optuna.journal.lock").unlink()
    (tmp_path / "optuna.journal.lock").symlink_to("optuna.journal.relative")  # as Optuna makes it for a relative path
    os.truncate(journal, journal.stat().st_size - 5)
    monkeypatch.chdir(tmp_path)
    again = opened(Path())
    assert len(again.records) == 1
    asked(again)
    assert all(json.loads(line) for line in journal.read_text().splitlines())
    assert len(stored(tmp_path).trials) == 2
    assert not (tmp_path / "optuna.journal.lock").is_symlink()
