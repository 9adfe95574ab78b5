"""NVIDIA's MPS, for which a real program of its name stands in: who starts it, who uses it, and when it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from resnet import NetSpec, cost
from search import mps
from search.execution import packing
from tests.support.journal import reported
from tests.support.study_process import ROOT, command, start, wait_until, wait_until_ended

PROGRAMS = ROOT / "tests" / "support" / "programs"
JOINS = """
import os
from search import mps
print(mps.join(), mps.joined() and mps.runs(), os.environ.get(mps.PIPES), sep="|", flush=True)
input()
"""


@dataclass
class Machine:
    """With a GPU that is none, and the program."""

    shell: dict[str, str]
    folder: Path  # of temporary files

    @property
    def started(self) -> list[tuple[int, Path]]:
        """Each daemon so far: its pid, and the folder of its socket."""
        file = self.folder / "started"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [(int(pid), Path(pipes)) for pid, pipes in lines]

    def control(self, pipes: Path, *flags: str, told: str = "") -> None:
        """Calls the program as its user does."""
        named = {mps.PIPES: str(pipes), mps.LOGS: str(pipes)}
        subprocess.run([PROGRAMS / mps.CONTROL, *flags], env=self.shell | named, input=told, text=True, check=True)

    def next_start(self) -> None:
        """Removes what a Ray that was left has left."""
        remove = "from search.storage import scratch; scratch.remove_dead()"
        subprocess.run([sys.executable, "-c", remove], env=self.shell, check=True)

    def wait_until_nothing_is_left(self) -> None:
        """No daemon runs, and no folder is there but those of core claims, which are files."""
        end = time.monotonic() + 30
        while True:
            left: list[Any] = [pid for pid, _ in self.started if runs(pid)]
            left += [path for path in self.folder.glob("resnet-search-*/*") if path.is_dir()]
            if not left:
                return
            assert time.monotonic() < end, left
            time.sleep(0.05)


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def keeper(machine: Machine) -> psutil.Process:
    def ours(process: psutil.Process) -> bool:
        try:
            return mps.__name__ in process.cmdline() and process.environ()["TMPDIR"] == str(machine.folder)
        except psutil.Error:  # it has just ended
            return False

    (found,) = filter(ours, psutil.process_iter())
    return found


@pytest.fixture
def machine(stand_in: dict[str, str]) -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # of a short path, for sockets
    changes = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "TMPDIR": str(folder),
        "MPS_STARTED": str(folder / "started"),
    }
    made = Machine(stand_in | changes, folder)
    try:
        yield made
        made.wait_until_nothing_is_left()
    finally:
        for pid, _ in made.started:
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)


class Joining:
    """A process that joins, and stays."""

    def __init__(self, machine: Machine, **changes: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOINS],
            env=machine.shell | {"CUDA_VISIBLE_DEVICES": "0"} | changes,  # as Ray names it
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(self) -> tuple[str, str, str]:
        """Why it could not, whether the driver says that it shares the GPU, and the folder of the socket."""
        assert self.process.stdout is not None
        failed, together, pipes = self.process.stdout.readline().strip().split("|")
        return failed, together, pipes

    def end(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate("\n")


def test_one_is_started_for_all_and_ends_after_the_last_of_them(machine: Machine) -> None:
    """One of them is killed. What joins after that has another started."""
    first = [Joining(machine) for _ in range(3)]
    told = {one.told() for one in first}
    ((pid, pipes),) = machine.started
    assert told == {("None", "True", str(pipes))}
    assert [folder.stat().st_mode & 0o777 for folder in (pipes, *list(pipes.parents)[:2])] == [0o700] * 3
    first[0].end()
    late = Joining(machine)
    assert late.told() == ("None", "True", str(pipes))
    first[1].end(kill=True)
    first[2].end()
    assert runs(pid)
    late.end(kill=True)
    machine.wait_until_nothing_is_left()
    again = Joining(machine)
    assert again.told()[0] == "None"
    assert len(machine.started) == 2
    again.end()


def test_one_that_runs_is_used_and_left_alone(machine: Machine) -> None:
    pipes = machine.folder / "theirs"
    pipes.mkdir()
    machine.control(pipes, "-d")
    try:
        joining = Joining(machine, **{mps.PIPES: str(pipes)})
        assert joining.told() == ("None", "True", str(pipes))
        joining.end()
        ((pid, _),) = machine.started
        assert runs(pid)
    finally:
        machine.control(pipes, told="quit\n")
    machine.wait_until_nothing_is_left()
    later = Joining(machine, **{mps.PIPES: str(pipes)})  # named, but it answers no more
    assert later.told()[:2] == ("None", "True")
    assert machine.started[1][1] != pipes
    later.end()


def test_the_keeper_that_was_killed_leaves_its_service_to_the_next_start(machine: Machine) -> None:
    joining = Joining(machine)
    joining.told()
    ((pid, _),) = machine.started
    keeper(machine).kill()
    joining.end()
    assert runs(pid)
    later = Joining(machine)
    assert later.told()[:2] == ("None", "True")
    assert not runs(pid)
    assert len(machine.started) == 2
    later.end()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PATH": "/nonexistent"}, "nvidia-cuda-mps-control, which comes with NVIDIA's driver, is not installed"),
        ({"MPS_REFUSES": "no permission"}, "NVIDIA's MPS does not start (no permission)"),
        (
            {"LD_LIBRARY_PATH": "", "LD_PRELOAD": ""},
            "NVIDIA's MPS does not start (it serves no process on this machine's GPU)",
        ),
    ],
)
def test_where_none_can_be_started_it_is_said_why(machine: Machine, changes: dict[str, str], reason: str) -> None:
    joining = Joining(machine, **changes)
    assert joining.told() == (reason, "False", "None")
    joining.end()
    assert [runs(pid) for pid, _ in machine.started] in ([], [False])


def measured(shell: dict[str, str]) -> Any:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.card.on_card", "measured"], env=shell, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])["measured"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
def test_two_trials_are_measured_together(machine: Machine) -> None:
    """A trial takes more than autograd keeps in bfloat16 of a batch of 128."""
    found = measured(machine.shell)
    assert found["trial_bytes"] > 128 * cost(NetSpec(depth=20), 32).activation_bytes / 2 > 64e6
    assert found["card_bytes"] == pytest.approx(141 * 2**30, rel=0.01)
    assert (found["most"], list(found["totals"])) == (2, ["1", "2"])
    assert min(found["totals"].values()) > 0


def test_nothing_is_measured_where_the_kernels_of_trials_take_turns(machine: Machine) -> None:
    assert measured(machine.shell | {"PATH": "/nonexistent"}) == (
        "nvidia-cuda-mps-control, which comes with NVIDIA's driver, is not installed" + packing.TURNS
    )


TRAIN = {"epochs": 40, "batch_size": 4, "flip": False}
LONG = ("--epochs", "4000")  # minutes
RESOURCES = {"RAY_OVERRIDE_RESOURCES": json.dumps({"GPU": 1})}


def study(machine: Machine, tmp_path: Path, *flags: str, **changes: str) -> tuple["subprocess.Popen[bytes]", Path]:
    arguments = command(tmp_path, "--scheduler", "none", *flags, train=TRAIN)
    return start(tmp_path, arguments, machine.shell | RESOURCES | changes)


def epochs(tmp_path: Path) -> dict[int, int]:
    """Number of a trial -> its last epoch that is on record."""
    return {one.number: one.epoch for one in reported(tmp_path / "results" / "tiny")}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "end", ["driver", *(pytest.param(end, marks=pytest.mark.nightly) for end in ("Ctrl-C", "itself", "raylet"))]
)
def test_it_ends_with_the_study(end: str, machine: Machine, tmp_path: Path) -> None:
    """Two trials share the GPU, and what is named ends the study. The folder of a killed Ray stays to the next."""
    long = () if end == "itself" else LONG
    process, log = study(machine, tmp_path, "--trials", "2", "--gpus-per-trial", "0.5", *long)
    wait_until(lambda: len(epochs(tmp_path)) == 2, process, log)
    ((pid, pipes),) = machine.started
    assert runs(pid)
    if end == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    elif end != "itself":
        family = psutil.Process(process.pid).children(recursive=True)
        (process if end == "driver" else next(one for one in family if one.name() == end)).kill()
    process.wait(240)
    deadline = time.monotonic() + 60
    while runs(pid) or pipes.exists():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    assert len(machine.started) == 1
    if end == "driver":
        machine.next_start()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
def test_a_fault_of_the_gpu_is_told_once_for_all_trials_on_it(machine: Machine, tmp_path: Path) -> None:
    """Whatever computed on the card before the file was touched fails, and what starts later does not."""
    fault = tmp_path / "fault"
    process, log = study(machine, tmp_path, "--trials", "2", "--gpus-per-trial", "0.5", *LONG, CARD_FAULT=str(fault))
    wait_until(lambda: len(epochs(tmp_path)) == 2, process, log)
    known = epochs(tmp_path)
    fault.touch()
    wait_until(lambda: all(epochs(tmp_path)[number] > known[number] + 5 for number in known), process, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(240) == 130, log.read_text()
    lines = [line for line in log.read_text().splitlines() if "last checkpoint" in line]
    assert len(lines) == 1, log.read_text()
    assert re.search(
        r"a fault on GPU 0 of node [\d.]+ ended 2 trials that shared it; they go on from their last checkpoints",
        lines[0],
    )


@pytest.mark.slow
@pytest.mark.long
def test_a_study_measures_how_many_trials_share_its_gpu(machine: Machine, tmp_path: Path) -> None:
    process, log = study(machine, tmp_path, "--trials", "2", "--max-concurrent", "2", "--epochs", "1")
    assert process.wait(240) == 0, log.read_text()
    assert re.search(
        r"[12] trials? on each GPU: at once on the a card that is none, the largest network trains 1 at [\d,]+, 2 at "
        r"[\d,]+ images/s in all; it takes \d\.\d of 14\d\.\d GiB, and memory, cores and trials are enough for 2",
        " ".join(log.read_text().split()),
    ), log.read_text()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
def test_ctrl_c_ends_a_measurement(machine: Machine, tmp_path: Path) -> None:
    """With the processes that train for it, as the death of the driver does."""
    process, log = study(machine, tmp_path, "--trials", "2", "--max-concurrent", "2")
    training: list[psutil.Process] = []

    def measures() -> bool:
        training[:] = filter(trains, psutil.Process(process.pid).children(recursive=True))
        return len(training) == 2

    wait_until(measures, process, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, log.read_text()
    wait_until_ended(training)
    assert "on each GPU" not in log.read_text()
    machine.next_start()


def trains(process: psutil.Process) -> bool:
    """In a team, or will when it has started."""
    try:
        return "--multiprocessing-fork" in process.cmdline()
    except psutil.Error:  # it has just ended
        return False
