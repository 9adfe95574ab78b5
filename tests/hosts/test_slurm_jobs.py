"""A study as a job of Slurm's, on three hosts: left alone, found again, ended by time limits, on machines that fail."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.empty_database import tracked
from tests.support.hosts import needs, slurm
from tests.support.hosts.lan import Lan
from tests.support.hosts.slurm import SHELL, Slurm
from tests.support.hosts.studies import Watched, busy, one_each
from tests.support.hosts.waiting import left_after, step, wait_for
from tests.support.study_process import ROOT, STUDY
from tests.support.whole import assert_all_there

MISSING = needs.missing() or slurm.missing()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.nightly,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]
TRIALS, EPOCHS, CORES = 2, 24, 2
LIMITS = 10  # that one study reaches
SMALL = {"epochs": EPOCHS, "batch_size": 2, "flip": False}  # a third of a second an epoch, if it is alone
OF_THE_JOB = "pgrep -a 'raylet|gcs_server|slurmstepd'; pgrep -fa '^ray::|-m search[.]'"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Lan(tmp_path_factory.mktemp("slurm") / "lan", 2, SHELL) as lan, Slurm(lan, CORES) as made:
        yield made
    assert lan.remains() == []


@dataclass
class Command:
    """A study's command on the head; each time it prints into a file of its own."""

    cluster: Slurm
    study: str
    times: int = 0

    def write(self, **changed: object) -> Watched:
        """Writes the study: `tests.support.study_process.STUDY` with what is changed."""
        shared = self.cluster.lan.shared
        (shared / f"{self.study}.yaml").write_text(yaml.safe_dump(STUDY | {"name": self.study} | changed))
        job = 1 + max((int(log.stem.removeprefix("slurm-")) for log in shared.glob("results/slurm-*.out")), default=0)
        return Watched(shared / "results" / self.study, shared / "results" / f"slurm-{job}.out")

    def give(self, *flags: str) -> tuple["subprocess.Popen[str]", Path]:
        """Starts it."""
        self.times += 1
        log = self.cluster.lan.root / f"{self.study}-{self.times}.log"
        share = f"--max-concurrent 2 --cpus-per-trial {one_each()} --scheduler none --trials {TRIALS}"
        slurm = "--slurm nodes=2,time=10m"
        typed = f"python -m search.run {self.study}.yaml --output results {share} {slurm} {' '.join(flags)}"
        shell = f"cd /mnt/shared && PYTHONPATH={ROOT} exec {typed}"
        with log.open("w") as file:
            started = self.cluster.lan.head.start(
                f"bash -c {shlex.quote(shell)}", stdout=file, stderr=subprocess.STDOUT
            )
        return started, log


def reach_time_limit(cluster: Slurm, job: str) -> None:
    """What Slurm does two minutes before it; until the job is back in the queue."""
    before = int(cluster.job(job)["Restarts"])
    with step("from the signal before the time limit to the queue"):
        cluster.ask(f"scancel --signal=USR1 --batch {job}")
        wait_for(lambda: int(cluster.job(job)["Restarts"]) > before, 120, "the job in the queue")


def go_on(study: Watched, number: int | None = None) -> None:
    """Until an epoch more of a trial is on record, by default of any."""

    def known() -> int:
        return len(study.epochs()) if number is None else study.epochs_of(number)

    before = known()
    wait_for(lambda: known() > before, 300, "an epoch more")


def test_a_study_outlives_time_limits_and_machines(cluster: Slurm) -> None:
    lan, (first, second) = cluster.lan, cluster.lan.workers
    tracked(lan.shared)
    command = Command(cluster, "tiny")
    study = command.write(train=SMALL)
    with step("the job is in the queue"):
        sent, log = command.give("--fresh", "--yes")
        wait_for(lambda: "submitted as job 1 " in log.read_text() or sent.poll() is not None, 120, "the job")
    with step("both trials have trained an epoch"):
        wait_for(lambda: len({one.number for one in study.epochs()}) == TRIALS, 300, "both trials")
    assert set(busy(lan.workers)) == {first, second}, "one on each machine"
    lan.head.run("kill -INT $(pgrep -f '^python -m search.run')")
    assert sent.wait(60) == 130
    assert "detached: job 1 goes on" in log.read_text()

    reach_time_limit(cluster, "1")
    began = study.epochs()[0]
    with step("an epoch more, from the queue"):
        again, log = command.give()
        go_on(study)
    assert "tiny: job 1 of root works on it in /mnt/shared/results" in log.read_text()
    assert log.read_text().count(f"{TRIALS} trials of up to {EPOCHS} epochs") == 2, "what it had printed before, too"

    with step(f"an epoch more of the trial whose raylet, on {second.name}, was killed"):
        second.run("kill -9 $(pgrep -x raylet)")
        lost = wait_for(study.lost, 120, "the loss of its trial")[0]
        go_on(study, lost)

    cluster.ask(f"scontrol update nodename={second.name} state=drain reason=tested")
    second.run("kill -9 $(pgrep -x slurmd)")
    reach_time_limit(cluster, "1")
    with step(f"{second.name}, which Slurm does not reach, ends by itself what it had of the job"):
        assert left_after(60, lambda: second.run(OF_THE_JOB, check=False).stdout.splitlines()) == []
    cluster.start_node(second)
    wait_for(lambda: "down" not in cluster.ask("sinfo -h -N -o %T"), 60, "its daemon")
    cluster.ask(f"scontrol update nodename={second.name} state=resume")
    with step("the study has ended"):
        assert again.wait(400) == 0, log.read_text()[-3000:]

    job = cluster.job("1")
    assert (job["JobState"], job["Restarts"], job["ExitCode"]) == ("COMPLETED", "2", "0:0"), "and is not started again"
    study.assert_whole(TRIALS, EPOCHS)
    assert study.epochs()[0] == began, "--fresh was for the first start"
    report = json.loads((study.folder / "report.json").read_text())
    results = lan.shared / "results"
    assert_all_there(report, TRIALS, results / "mlflow.db", results / "mlartifacts", "tiny")
    assert "Report:" in log.read_text()
    for host in lan.workers:
        assert left_after(60, lambda host=host: host.run(OF_THE_JOB, check=False).stdout.splitlines()) == []


def test_a_study_reaches_ten_time_limits_and_one_too_early(cluster: Slurm) -> None:
    epochs = 100
    command = Command(cluster, "ten")
    study = command.write(train=SMALL | {"epochs": epochs})
    job = study.log.stem.removeprefix("slurm-")
    sent, log = command.give()
    for _ in range(LIMITS):
        with step("an epoch more, from the queue"):
            go_on(study)
        reach_time_limit(cluster, job)
    known = len(study.epochs())
    begun = f"{TRIALS} trials of up to {epochs} epochs"
    wait_for(lambda: study.log.read_text().count(begun) == LIMITS + 1, 300, "the study, before it trains")
    cluster.ask(f"scancel --signal=USR1 --batch {job}")
    assert sent.wait(120) != 0
    assert "no epoch has ended in the time of this job; give the same command with a longer time=" in log.read_text()
    assert (cluster.job(job)["Restarts"], len(study.epochs())) == (str(LIMITS), known)
    again, log = command.give()
    with step("the study has ended"):
        assert again.wait(400) == 0, log.read_text()[-3000:]
    study.assert_whole(TRIALS, epochs)
    report = json.loads((study.folder / "report.json").read_text())
    results = cluster.lan.shared / "results"
    assert_all_there(report, TRIALS, results / "mlflow.db", results / "mlartifacts", "ten")
