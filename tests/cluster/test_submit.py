"""A study as a job of a real cluster, sent from another process: followed, left alone, found again, stopped."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.empty_database import tracked
from tests.support.ray_head import Head, head
from tests.support.study_process import command, run, start, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.long]
LONG = {"epochs": 9, "batch_size": 2, "flip": False}  # a third of a second an epoch
ENDLESS = LONG | {"epochs": 1000}
OVER = {"SUCCEEDED", "FAILED", "STOPPED"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with head(tmp_path_factory.mktemp("head") / "log") as made:
        yield made


def asked(folder: Path, *flags: str, **changes: Any) -> list[str]:
    """A small study with its results on what plays a shared disk."""
    tracked(folder, "shared")
    return command(folder, "--output", str(folder / "shared"), "--scheduler", "none", *flags, **changes)


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "shared" / "tiny" / "report.json").read_text())


def jobs_in(cluster: Head, folder: Path) -> list[dict[str, Any]]:
    return [job for job in cluster.jobs() if job["metadata"].get("output") == str(folder / "shared")]


def status(cluster: Head, folder: Path) -> str:
    return jobs_in(cluster, folder)[-1]["status"]


@pytest.mark.nightly
def test_detached_by_ctrl_c_and_followed_again_by_the_same_command(cluster: Head, tmp_path: Path) -> None:
    study = asked(tmp_path, "--trials", "2", train=LONG)
    process, log = start(tmp_path, study, cluster.shell)
    wait_until(lambda: "2 trials of up to 9 epochs" in log.read_text(), process, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    (job,) = jobs_in(cluster, tmp_path)
    assert f"detached: job {job['submission_id']} goes on" in log.read_text()
    assert "--stop" in log.read_text()
    assert job["status"] == "RUNNING"

    again = run(tmp_path, study, cluster.shell)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"job {job['submission_id']} of" in again.stdout
    assert again.stdout.count("2 trials of up to 9 epochs") == 1, "what it printed before is told, once"
    assert "Report:" in again.stdout
    assert again.stderr == ""
    (job,) = jobs_in(cluster, tmp_path)
    assert (job["status"], job["driver_exit_code"]) == ("SUCCEEDED", 0)
    assert cluster.token not in json.dumps(job) + log.read_text() + again.stdout
    assert {trial["state"] for trial in report(tmp_path)["trials"]} == {"complete"}


@pytest.mark.nightly
def test_two_users_at_once_and_a_laptop_that_vanishes(cluster: Head, tmp_path: Path) -> None:
    """Both call their study the same; the first one's machine dies as soon as the job is sent."""
    folders = [tmp_path / name for name in ("ann", "bob")]
    users = [cluster.shell | {"LOGNAME": folder.name} for folder in folders]
    for folder in folders:
        folder.mkdir()
    gone, log = start(folders[0], asked(folders[0], "--trials", "2"), users[0])
    wait_until(lambda: "submitted as job" in log.read_text(), gone, log)
    gone.kill()
    gone.wait()
    other = run(folders[1], asked(folders[1], "--trials", "2"), users[1])
    assert other.returncode == 0, other.stdout + other.stderr
    while (ended := status(cluster, folders[0])) not in OVER:
        time.sleep(0.1)
    assert ended == "SUCCEEDED"
    for folder in folders:
        assert [trial["state"] for trial in report(folder)["trials"]] == ["complete"] * 2
    assert jobs_in(cluster, folders[1])[0]["metadata"]["user"] == "bob"


def test_stop_ends_a_job_where_its_trials_can_be_continued(cluster: Head, tmp_path: Path) -> None:
    study = asked(tmp_path, "--trials", "2", train=ENDLESS)
    process, log = start(tmp_path, study, cluster.shell)
    trials = tmp_path / "shared" / "tiny" / "trials"
    wait_until(lambda: any(trials.glob("*/*")), process, log)
    unclear = run(tmp_path, [*study, "--fresh", "--yes"], cluster.shell)
    assert unclear.returncode == 2
    assert "--stop" in unclear.stderr
    # By its name alone, for it is the only study of this user that is so called.
    stopped = run(tmp_path, [*study[:3], "tiny", "--stop"], cluster.shell)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert process.wait(120) == 130
    assert "stopped after 0 of 2 trials; run the same command again to continue" in log.read_text()
    assert status(cluster, tmp_path) == "STOPPED"
    assert any(trials.glob("*/*")), "checkpoints to go on from"


def test_the_exit_status_is_the_job_s(cluster: Head, tmp_path: Path) -> None:
    """Data that only the cluster could have, and does not: told by the job, bad input here, too."""
    ended = run(tmp_path, asked(tmp_path, "--set", "data.name=npz:/nowhere/x.npz"), cluster.shell)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "error: data.name: /nowhere/x.npz does not exist" in ended.stdout
    assert jobs_in(cluster, tmp_path)[0]["driver_exit_code"] == 2


def test_what_is_refused_before_anything_is_sent(cluster: Head, tmp_path: Path) -> None:
    def refused(*arguments: str, **shell: str) -> str:
        before = len(cluster.jobs())
        ended = run(tmp_path, [*command(tmp_path)[:3], *arguments], cluster.shell | shell)
        assert ended.returncode == 2, ended.stdout + ended.stderr
        assert ended.stdout == ""
        assert ended.stderr.startswith("error: ")
        assert ended.stderr.count("\n") == 1
        assert len(cluster.jobs()) == before
        return ended.stderr

    there = ("--output", "/shared/results")
    assert "refuses this token" in refused("tiny.yaml", *there, RAY_AUTH_TOKEN="0" * 64)
    assert "wants a token" in refused("tiny.yaml", *there, HOME=str(tmp_path))
    assert "output = 'results' is a folder of this machine" in refused("tiny.yaml")
    assert "did you mean 'digits'?" in refused("digts", *there)
    assert "no job" in refused("tiny.yaml", *there, "--stop")
