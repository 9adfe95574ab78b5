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

from search.ledger import Ledger
from search.records import TrialState
from search.space_parse import make

ROOT = Path(__file__).parents[1]
FIXED: dict[str, Any] = {"net.in_channels": 1, "net.num_classes": 10, "net.depth": 8}
SPACE: dict[str, Any] = {
    "net.version": ["v1", "v2"],
    "net.shortcut": ["identity", "dropout"],
    "net.dropout": {"low": 0.1, "high": 0.5},
    "train.lr": {"low": 0.01, "high": 0.5, "log": True},
    "train.batch_size": {"low": 16, "high": 64, "step": 16},
}


def opened(folder: Path, sampler: str = "random", seed: int = 7) -> Ledger:
    return Ledger(folder / "optuna.journal", "study", make(SPACE, FIXED), sampler, seed, (8, 8))


def stored(folder: Path) -> optuna.Study:
    """The same study, read by Optuna."""
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="study", storage=storage)


def in_a_process(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Runs `body` in a process of its own with `folder`, this module as `t`, and an opened ledger."""
    lines = "import os, signal, sys; from pathlib import Path; import test_ledger as t; folder = Path(sys.argv[1])\n"
    lines += "ledger = t.opened(folder)\n"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(
        [sys.executable, "-c", lines + body, str(folder)], env=environment, capture_output=True, text=True, cwd=folder
    )


KILL = "os.kill(os.getpid(), signal.SIGKILL)\n"


def run_trial(ledger: Ledger) -> dict[str, Any]:
    """One trial with an error that follows from its parameters; returns what was proposed."""
    asked = ledger.ask()
    flat = asked.spec.flat()
    for epoch in (1, 2, 3):
        ledger.report(asked.number, epoch, 10 * abs(math.log(flat["train.lr"] / 0.1)) + 3 / epoch, 0.5)
    ledger.finish(asked.number, TrialState.COMPLETE)
    return flat


def test_optuna_reads_what_happened(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for _ in range(5):
        ledger.ask()
    ledger.report(0, 1, 40.0, 1.0)
    ledger.report(0, 2, 20.5, 1.5)
    ledger.finish(0, TrialState.COMPLETE)
    ledger.report(1, 1, 55.0, 1.0)
    ledger.finish(1, TrialState.PRUNED, "rank 2 of 2")
    ledger.report(2, 1, math.nan, 1.0)
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
    # basic net of depth 8 on one channel: 9*16 + 2*9*16*16 + 9*16*32 + 9*32*32 + 9*32*64 + 9*64*64 weights of
    # convolutions, 2*(3*16 + 2*32 + 2*64) of normalisations (v1), 64*10 + 10 of the classifier
    v1 = [t for t in trials if t.params["net.version"] == "v1"]
    assert {t.user_attrs["cost"]["params"] for t in v1} == {144 + 4608 + 4608 + 9216 + 18432 + 36864 + 480 + 650}


def test_reopened_is_the_same(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    run_trial(ledger)
    ledger.ask()
    ledger.report(1, 1, 33.0, 0.25)
    ledger.ask()
    ledger.report(2, 1, math.inf, 0.25)
    ledger.finish(2, TrialState.DIVERGED, "loss became infinite")
    ledger.add_elapsed(12.5)
    again = opened(tmp_path)
    assert again.records == ledger.records
    assert [r.state.value for r in again.records] == ["complete", "running", "diverged"]
    assert again.records[0].seconds == 1.5
    assert again.records[2].reason == "loss became infinite"
    assert again.key == ledger.key
    assert again.elapsed == 12.5
    again.add_elapsed(1)
    assert opened(tmp_path).elapsed == 13.5


def test_running_trials_are_adopted_as_they_were(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    asked = [ledger.ask() for _ in range(3)]
    ledger.report(0, 1, 50.0, 1.0)
    ledger.report(1, 1, 30.0, 1.0)
    ledger.finish(1, TrialState.PRUNED)
    again = opened(tmp_path)
    assert again.adopt() == [asked[0], asked[2]]
    again.report(0, 1, 99.0, 1.0)  # told twice: the first stays
    again.report(0, 2, 40.0, 1.0)
    again.finish(0, TrialState.COMPLETE)
    assert again.record(0).curve == {1: 50.0, 2: 40.0}
    assert stored(tmp_path).trials[0].intermediate_values == {1: 50.0, 2: 40.0}
    assert again.ask().number == 3
    assert [t.number for t in opened(tmp_path).adopt()] == [2, 3]


def test_first_ending_stays(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.ask()
    ledger.report(0, 1, 50.0, 1.0)
    ledger.finish(0, TrialState.PRUNED, "first")
    ledger.finish(0, TrialState.COMPLETE, "second")
    assert (ledger.record(0).state, ledger.record(0).reason) == (TrialState.PRUNED, "first")
    assert opened(tmp_path).record(0).reason == "first"
    assert stored(tmp_path).trials[0].state.name == "PRUNED"


@pytest.mark.parametrize("asks", ["ledger.study.ask()", "ledger._space.suggest(ledger.study.ask())"])
def test_killed_between_the_question_and_its_record(asks: str, tmp_path: Path) -> None:
    """The process dies when Optuna knows the trial (without or with parameters) and its specification is not noted."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    # as `ask` does, up to the moment
    body = "from search.ledger import make_sampler\nledger.study.sampler = make_sampler('random', 7, 0)\n"
    assert in_a_process(killed, body + asks + "\n" + KILL).returncode == -signal.SIGKILL
    assert len(stored(killed).trials) == 1
    again = opened(killed)
    (adopted,) = again.adopt()
    assert adopted == opened(whole).ask()
    assert again.record(0).params_count == opened(whole).record(0).params_count
    assert opened(killed).record(0) == again.record(0)
    assert again.ask().number == 1


def test_killed_between_the_two_writes_of_an_ending(tmp_path: Path) -> None:
    body = "ledger.ask(); ledger.report(0, 1, 12.5, 1.0)\nledger._tell = lambda *a: os.kill(os.getpid(), 9)\n"
    killed = in_a_process(tmp_path, body + "ledger.finish(0, t.TrialState.COMPLETE)\n")
    assert killed.returncode == -signal.SIGKILL
    assert stored(tmp_path).trials[0].state.name == "RUNNING"
    again = opened(tmp_path)
    assert again.record(0).state is TrialState.COMPLETE
    assert again.adopt() == []
    assert stored(tmp_path).trials[0].value == 12.5


def test_killed_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is left locked, at a relative path as by default, and its last line is half there."""
    body = f"os.fsync = lambda fd: {KILL.strip()}\nledger.ask()\n"
    assert in_a_process(tmp_path, "ledger.ask()\n" + body).returncode == -signal.SIGKILL
    journal = tmp_path / "optuna.journal"
    assert (tmp_path / "optuna.journal.lock").is_symlink()
    (tmp_path / "optuna.journal.lock").unlink()
    (tmp_path / "optuna.journal.lock").symlink_to("optuna.journal.relative")  # as Optuna makes it for a relative path
    os.truncate(journal, journal.stat().st_size - 5)
    monkeypatch.chdir(tmp_path)
    again = opened(Path())
    assert len(again.records) == 1
    again.ask()
    assert all(json.loads(line) for line in journal.read_text().splitlines())
    assert len(stored(tmp_path).trials) == 2
    assert not (tmp_path / "optuna.journal.lock").is_symlink()


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_same_seed_same_proposals_whatever_interrupts(sampler: str, tmp_path: Path) -> None:
    """14 trials, so that TPE's model is in use (from the 11th on): at once, reopened each time, in another process."""
    folders = [tmp_path / name for name in ("at_once", "reopened", "elsewhere", "other_seed")]
    for folder in folders:
        folder.mkdir()
    ledger = opened(folders[0], sampler)
    at_once = [run_trial(ledger) for _ in range(14)]
    reopened = [run_trial(opened(folders[1], sampler)) for _ in range(14)]
    body = f"import json; ledger = t.opened(folder, {sampler!r})\n"
    body += "print(json.dumps([t.run_trial(ledger) for _ in range(14)]))"
    elsewhere = in_a_process(folders[2], body)
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert at_once == reopened == json.loads(elsewhere.stdout)
    rates = [flat["train.lr"] for flat in at_once]
    assert len(set(rates)) == 14
    other = opened(folders[3], sampler, seed=8)
    assert run_trial(other)["train.lr"] not in rates


def test_proposals_keep_to_the_space(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    proposals = [ledger.ask().spec.flat() for _ in range(30)]
    assert {p["net.shortcut"] for p in proposals} == {"identity", "dropout"}
    for proposal in proposals:
        assert ("net.dropout" in proposal) == (proposal["net.shortcut"] == "dropout")
        assert 0.01 <= proposal["train.lr"] <= 0.5
        assert proposal["train.batch_size"] in (16, 32, 48, 64)
        assert 0.1 <= proposal.get("net.dropout", 0.1) <= 0.5


def test_study_has_a_key_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert opened(tmp_path / "a").key != opened(tmp_path / "b").key
    assert opened(tmp_path / "a").key == opened(tmp_path / "a").key
