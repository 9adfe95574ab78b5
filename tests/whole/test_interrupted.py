"""Ctrl-C at every stage of a study, in a terminal: a line at once, status 130, nothing left behind, nothing lost."""

import os
import pty
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from search import Study, training
from tests.support.empty_database import tracked
from tests.support.journal import reported
from tests.support.study_process import ROOT, command, run, wait_until, wait_until_ended
from tests.support.whole import assert_whole

pytestmark = pytest.mark.long
# What the terminal shows when the keys are pressed, what is said then, and within how many seconds the process ends on
# idle cores; a test waits for ten times as long.
STAGES = {
    "starting (": ("interrupted; run the same command again", 5),
    "reading study": ("interrupted; run the same command again", 5),
    "starting Ray": ("interrupted; run the same command again", 5),
    "1 worker starting": ("interrupted: what trains comes to the end of its epoch", 5),
    "finals": ("interrupted: what trains comes to the end of its epoch", 15),
    "writing report": ("interrupted; run the same command again", 5),
}


def heard() -> None:
    """SIGINT ends a process: tests in a shell's background ignore it, and so would all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
        self.process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=heard,
        )
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read, args=[ours], daemon=True)
        self._reader.start()

    def _read(self, ours: int) -> None:
        try:
            while read := os.read(ours, 65536):
                self.text += read.decode(errors="replace")
        except OSError:  # the other side is closed: the process has ended
            pass
        os.close(ours)

    def wait_for(self, text: str, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while text not in self.text:
            assert self.process.poll() is None or self._reader.is_alive(), f"ended without {text!r}: {self.text}"
            assert time.monotonic() < end, f"no {text!r}: {self.text}"
            time.sleep(0.01)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)


@pytest.mark.timeout(1800)
def test_ctrl_c_at_every_stage(tmp_path: Path) -> None:
    arguments = command(tmp_path, "--trials", "2", "--max-concurrent", "1", finals={"top": 1, "seeds": 2})
    for shown, (told, seconds) in STAGES.items():
        terminal = Terminal(tmp_path, arguments)
        try:
            terminal.wait_for(shown)
            family = psutil.Process(terminal.process.pid).children(recursive=True)
            pressed = time.monotonic()
            terminal.process.send_signal(signal.SIGINT)
            terminal.wait_for(told, 10 * seconds)
            said = time.monotonic() - pressed
            assert terminal.process.wait(10 * seconds) == 130, terminal.text
            print(f"{shown}: {said:.1f} s to the line, {time.monotonic() - pressed:.1f} s to the end")  # noqa: T201
        finally:
            terminal.close()
        wait_until_ended(family)
        assert "Traceback" not in terminal.text
        assert terminal.text.count("interrupted") == 1, terminal.text
    terminal = Terminal(tmp_path, arguments)
    assert terminal.process.wait(300) == 0, terminal.text
    assert (tmp_path / "results" / "tiny" / "report.html").is_file()


@pytest.mark.nightly
def test_ctrl_c_between_two_checkpoints_costs_no_epoch(tmp_path: Path) -> None:
    """Two trials at work, and no checkpoint so far: what is on record is in one when the process has ended."""
    train = {"epochs": 30, "batch_size": 2, "flip": False}  # a third of a second an epoch
    arguments = command(tracked(tmp_path), "--trials", "2", "--scheduler", "none", train=train)
    study = tmp_path / "results" / "tiny"
    terminal = Terminal(tmp_path, arguments)
    try:
        wait_until(lambda: {one.number for one in reported(study)} == {0, 1}, terminal.process, tmp_path / "tiny.yaml")
        assert not list(study.glob("trials/*/epoch-*"))
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(60) == 130, terminal.text
    finally:
        terminal.close()
    trials = Study.open(study).trials
    known = {trial.number: trial.epochs for trial in trials}
    assert all(trial.running and 0 < trial.epochs < 30 for trial in trials)
    found = {number: training.latest(study / "trials" / f"{number:04d}") for number in known}
    assert {number: one and one.state.epoch for number, one in found.items()} == known
    ended = run(tmp_path, arguments)
    assert ended.returncode == 0, ended.stderr
    assert_whole(tmp_path, 2)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_an_epoch_that_runs_is_waited_for(tmp_path: Path) -> None:
    """One of twenty seconds and more on a core, longer than Ray gives a worker to end."""
    large = {"net": {"depth": 110, "width": 3.0}, "space": {"train.lr": [0.01]}, "data": "digits"}
    terminal = Terminal(tmp_path, command(tmp_path, "--trials", "1", **large))
    try:
        terminal.wait_for("1/3")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(400) == 130, terminal.text
    finally:
        terminal.close()
    (trial,) = Study.open(tmp_path / "results" / "tiny").trials
    assert (trial.running, trial.epochs) == (True, 2)
