"""Workers and machines that die while a study runs: what was trained is kept, and the study is whole in the end."""

from pathlib import Path

import psutil
import pytest

from search.execution.tuner import RESTARTS, Faults, Loss, Restarts
from tests.support.cluster import cluster, switch_off, workers
from tests.support.empty_database import tracked
from tests.support.journal import reported
from tests.support.study_process import command, run, start, wait_until, wait_until_ended
from tests.support.whole import assert_whole, report_of

SLOW = {"epochs": 24, "batch_size": 2, "flip": False}  # a third of a second an epoch


def epochs_of(folder: Path, number: int) -> int:
    """Epochs of a trial that are on record."""
    return sum(one.number == number for one in reported(folder / "results" / "tiny"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
def test_a_trial_may_lose_its_worker_three_times(tmp_path: Path) -> None:
    """One trial loses it so often and is whole; the next loses one more and has failed, with what Ray says of it."""
    one_at_a_time = ("--trials", "2", "--max-concurrent", "1", "--scheduler", "none")
    process, log = start(tmp_path, command(tracked(tmp_path), *one_at_a_time, train=SLOW))
    for number, deaths in ((0, RESTARTS), (1, RESTARTS + 1)):
        for _ in range(deaths):
            known = epochs_of(tmp_path, number)
            wait_until(lambda n=number, k=known: epochs_of(tmp_path, n) > k, process, log)
            (worker,) = workers(process.pid)
            worker.kill()
    assert process.wait(240) == 0, log.read_text()
    first, second = report_of(tmp_path)["trials"]
    assert (first["state"], first["epochs"]) == ("complete", SLOW["epochs"])
    assert (second["state"], second["reason"]) == ("failed", "its worker died, 4 times")
    assert 4 <= second["epochs"] < SLOW["epochs"]
    assert log.read_text().count("it goes on from its last checkpoint in another") == 2 * RESTARTS
    assert "(raylet)" not in log.read_text()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
def test_a_machine_that_dies_costs_its_trials_no_restart(tmp_path: Path) -> None:
    """Trials run on a machine that is switched off in mid-epoch, one time more than a worker may die."""
    with cluster(tmp_path, head_cores=0) as joined:
        machine = joined.add(1)
        arguments = command(tracked(tmp_path), "--trials", "1", "--scheduler", "none", train=SLOW)
        process, log = start(tmp_path, arguments, joined.shell)
        for _ in range(RESTARTS + 1):
            known = epochs_of(tmp_path, 0)
            wait_until(lambda k=known: epochs_of(tmp_path, 0) > k, process, log)
            assert workers(machine)
            switch_off(machine)
            machine = joined.add(1)
        assert process.wait(240) == 0, log.read_text()
    assert_whole(tmp_path, 1)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("part", ["raylet", pytest.param("gcs_server", marks=pytest.mark.nightly)])
def test_a_part_of_ray_that_dies_halts_the_study_in_a_sentence(part: str, tmp_path: Path) -> None:
    """Within half a minute, with nothing left running; the same command continues to a whole study."""
    arguments = command(tracked(tmp_path), "--trials", "2", "--scheduler", "none", train=SLOW)
    process, log = start(tmp_path, arguments)
    wait_until(lambda: epochs_of(tmp_path, 0) > 1, process, log)
    family = psutil.Process(process.pid).children(recursive=True)
    assert workers(process.pid)
    (victim,) = (member for member in family if member.name() == part)
    victim.kill()
    assert process.wait(30) == 1, log.read_text()
    sentence = log.read_text().splitlines()[-1]
    assert sentence.startswith(f"error: Ray's {part} on this machine died (SIGKILL); "), log.read_text()
    assert sentence.endswith("run the same command again: it continues")
    known = epochs_of(tmp_path, 0)
    wait_until_ended(family)
    again = run(tmp_path, arguments)
    assert again.returncode == 0, again.stderr
    assert epochs_of(tmp_path, 0) == SLOW["epochs"] > known  # none is on record twice
    assert_whole(tmp_path, 2)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("part", "name"),
    [("gcs_server", "the head"), ("raylet", "Ray on this machine")],
)
def test_a_part_of_a_cluster_that_dies_halts_the_study_too(part: str, name: str, tmp_path: Path) -> None:
    """The same command continues, here on no cluster."""
    arguments = command(tracked(tmp_path), "--trials", "1", train=SLOW | {"epochs": 30})  # long enough to be noticed
    with cluster(tmp_path) as joined:
        process, log = start(tmp_path, arguments, joined.shell)
        wait_until(lambda: epochs_of(tmp_path, 0) > 1, process, log)
        (victim,) = (p for p in psutil.Process(joined.process.pid).children(recursive=True) if p.name() == part)
        victim.kill()
        assert process.wait(30) == 1, log.read_text()
        assert log.read_text().splitlines()[-1] == (
            f"error: {name} of the cluster at {joined.address} is out of reach (Connection refused); "
            "see that the cluster runs, and run the same command again: it continues"
        )
    assert run(tmp_path, arguments).returncode == 0
    assert_whole(tmp_path, 1)


def test_what_a_trial_may_lose() -> None:
    """Three workers on machines that live; any number with their machines; none where no worker can start."""
    alive = {"a", "b", "c"}
    restarts = Restarts(lambda: alive)
    died = Loss("its worker died", "")
    assert [restarts.again(0, died) for _ in range(4)] == [True, True, True, False]
    on = [Loss("its worker died", "", machine) for machine in "abc"]
    assert all(restarts.again(1, loss) for loss in on)
    alive -= {"b"}
    assert restarts.again(1, on[0])
    assert not restarts.again(1, on[0])
    assert restarts.again(2, Loss("", "", preempted=True))
    assert not restarts.again(3, Loss("its worker did not start: x", "", final=True))


def test_a_worker_out_of_reach_counts_only_once_its_machine_had_time_to_be_found_dead() -> None:
    alive = {"a", "b"}
    restarts = Restarts(lambda: alive)
    assert all(restarts.again(0, Loss("", "", "a")) for _ in range(3))
    assert restarts.again(0, Loss("", "", "b", unsure=True))
    assert not restarts.again(0, Loss("", "", "b", unsure=True))
    alive -= {"b"}
    assert restarts.again(0, Loss("", "", "b", unsure=True))


def test_a_fault_of_a_gpu_costs_one_restart_in_all() -> None:
    """A quarter for each of four trials: the thirteenth is one too many, and the fifth after two workers that died."""
    restarts = Restarts(lambda: set())
    fault = Loss("", "", card="GPU 0", weight=0.25)
    assert [restarts.again(0, fault) for _ in range(13)] == [True] * 12 + [False]
    assert restarts.counted(0) == 13
    assert [restarts.again(1, Loss("", "")) for _ in range(2)] == [True, True]
    assert [restarts.again(1, fault) for _ in range(5)] == [True] * 4 + [False]


def test_trials_that_one_fault_ended_are_told_in_one_line() -> None:
    told: list[str] = []
    faults = Faults(told.append)
    for number in (3, 5, 3):
        faults.add("GPU 0 of node 10.0.0.1", number)
    faults.tell()
    assert told == [], "others may follow"
    faults.add("GPU 1 of node 10.0.0.1", 7)
    faults.tell(after=0.0)
    faults.tell(after=0.0)
    assert told == [
        "a fault on GPU 0 of node 10.0.0.1 ended 2 trials that shared it; they go on from their last checkpoints",
        "a fault on GPU 1 of node 10.0.0.1 ended 1 trial there; it goes on from its last checkpoint",
    ]
