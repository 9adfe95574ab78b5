"""A study for Slurm: the batch script that is written, and what is refused before anything is sent."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.cluster import allocation
from search.machine import signal_handlers
from search.run import main
from tests.support.fixtures import alone, refusal  # noqa: F401
from tests.support.study_process import ROOT

pytestmark = pytest.mark.usefixtures("alone")
OUTPUT = ("--output", "/shared/our results")


def printed(capsys: pytest.CaptureFixture[str], asked: str, *flags: str) -> str:
    """The script, which bash can read."""
    assert main([*flags, *OUTPUT, "--slurm", f"print=true,{asked}"]) == 0
    script = capsys.readouterr().out
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    return script


def directives(script: str) -> set[str]:
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    return {word for line in lines if line.startswith("#SBATCH ") for word in shlex.split(line)[1:]}


def test_the_script_of_four_whole_machines(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("{name: mine, data: digits, space: {net.depth: [8]}}")
    script = printed(
        capsys, "partition=gpu,nodes=4,time=8h,account=vision,gres=gpu:4", "mine.yaml", "--set", "train.lr=0.1"
    )
    assert directives(script) == {
        *("--job-name=mine", "--chdir=/shared/our results", "--output=slurm-%j.out", "--open-mode=append"),
        *("--nodes=4", "--ntasks-per-node=1", "--exclusive", "--mem=0", "--no-kill"),
        *("--partition=gpu", "--account=vision", "--gres=gpu:4", "--time=480", "--requeue", "--signal=B:USR1@120"),
    }
    *_, folder, path, command = script.splitlines()
    assert shlex.split(folder) == ["cd", str(Path.cwd())]
    assert path == f"export PYTHONPATH={ROOT}:$PYTHONPATH"
    words = [sys.executable, "-m", "search.cluster.allocation", "/shared/our results"]
    assert shlex.split(command) == [
        *("exec", *words, str(Path("mine.yaml").absolute())),
        *("--output=/shared/our results", "--set=train.lr=0.1"),
    ]
    assert not Path("results").exists()


def test_the_script_of_a_part_of_one_machine(capsys: pytest.CaptureFixture[str]) -> None:
    asked = directives(printed(capsys, "cpus-per-task=8,mem=32G,time=1-12:00:00", "digits"))
    assert {"--nodes=1", "--cpus-per-task=8", "--mem=32G", "--time=2160"} <= asked
    assert not asked & {"--exclusive", "--mem=0", "--no-kill"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("partiton=gpu", ["'partiton' is not a key", "did you mean 'partition'?"]),
        ("partition", ["partition needs one word", "partition=VALUE"]),
        ("partition=a b", ["partition needs one word"]),
        ("nodes=0", ["nodes=0 is no number of machines", "1 or more"]),
        ("nodes=two", ["nodes=two is no number of machines"]),
        ("time=soon", ["time=soon is not a time", "8h"]),
        ("time=8", ["time=8 is not a time"]),
        ("time=2m", ["time=2m is too short", "at least 5m"]),
        ("print=yes", ["print=yes", "print=true"]),
    ],
)
def test_words_that_are_refused(asked: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal([*OUTPUT, "--slurm", asked], capsys)
    assert all(word in sentence for word in ("--slurm", *words)), sentence


def test_what_else_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*flags: str) -> str:
        return refusal(["--slurm", "nodes=2,print=true", *flags], capsys)

    assert "'/tmp/results' is on this machine alone" in refused("--output", "/tmp/results")
    assert "give --output as a folder" in refused("--output", "s3://bucket/studies")
    assert "name two clusters" in refused(*OUTPUT, "--address", "http://127.0.0.1:8265")
    assert "its password would be seen" in refused(*OUTPUT, "--tracking-uri", "http://ann:hidden@mlflow:5000")
    assert "did you mean 'net.depth'" in refused(*OUTPUT, "--set", "space.net.dept=[8]")
    monkeypatch.setenv("PATH", str(Path.cwd()))
    assert "sbatch is not on this machine's PATH" in refusal([*OUTPUT, "--slurm", "nodes=2"], capsys)


def test_a_dead_machine_is_known_as_soon_as_on_other_clusters() -> None:
    shell = ["sh", "-c", f". {ROOT}/search/cluster/env.sh; env"]
    there = {"HOME": "/home/x", "PATH": os.environ["PATH"]}
    shown = subprocess.run(shell, env=there, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {f"{name}={value}" for name, value in allocation.LIVENESS.items()} <= set(shown)


@pytest.mark.parametrize(("told", "goes_on"), [([signal.SIGUSR1], True), ([signal.SIGUSR1, signal.SIGTERM], False)])
def test_a_study_that_does_not_end_its_epoch_in_time_is_ended(
    told: list[signal.Signals], goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal_handlers((signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD))
    monkeypatch.setattr(allocation, "EPOCH_SECONDS", 0.1)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    study = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    try:
        signals = allocation.Signals()
        assert study.stdout is not None
        study.stdout.readline()
        for number in told:
            os.kill(os.getpid(), number)
        assert allocation.wait(study, signals) is goes_on
        assert study.returncode == -signal.SIGKILL
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        study.kill()
