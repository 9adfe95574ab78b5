"""search/cluster/onprem.yaml on four hosts: a study from a laptop, through a dead worker and a cut one.

The tests are one story, in the order in which they stand.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.support.hosts import derived, needs
from tests.support.hosts.host import Host
from tests.support.hosts.host_files import USER
from tests.support.hosts.lan import HEAD, NETWORK, Lan
from tests.support.hosts.launcher import JOBS, Launcher
from tests.support.hosts.sockets import INTERNAL, listening
from tests.support.hosts.studies import Watched, busy, one_each
from tests.support.hosts.users import user
from tests.support.hosts.waiting import left_after, step, tell, wait_for
from tests.support.whole import assert_all_there

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(needs.missing() is not None, reason=str(needs.missing())),
]
WORKERS = 3  # one more than there are trials at once, so that a lost one need not wait
TRIALS, EPOCHS = 5, 48  # with small batches: trials shall still train when the worker that died is back
SMALL = {"epochs": 24, "batch_size": 2, "flip": False}  # a third of a second an epoch, if it is alone
OUTPUT = "/mnt/shared/results"


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with Lan(tmp_path_factory.mktemp("onprem") / "lan", WORKERS) as lan:
        yield Launcher(lan, derived.place(derived.onprem(lan), lan))
    assert lan.remains() == []


def test_it_comes_up(launcher: Launcher) -> None:
    with step("ray up: the head, with MLflow"):
        launcher.up()
        launcher.open_tunnel()
    with step(f"all {WORKERS} workers joined"):
        nodes = launcher.nodes(HEAD, WORKERS + 1, 300)
    assert sorted(node["host"] for node in nodes) == ["head", "worker1", "worker2", "worker3"]
    assert [node for node in nodes if node["host"] == HEAD and "CPU" in node["resources"]] == [], "no trial on the head"


@pytest.mark.parametrize(
    ("header", "status"),
    [("", 401), ("Authorization: Bearer wrong", 403), ("Authorization: Bearer $(cat ~/.ray/auth_token)", 200)],
    ids=["no token", "wrong token", "token"],
)
def test_a_job_needs_the_token(launcher: Launcher, header: str, status: int) -> None:
    job = """-X POST -H 'Content-Type: application/json' -d '{"entrypoint": "true"}'"""
    asked = f"""curl -s -o /dev/null -w '%{{http_code}}' -H "{header}" {job} {JOBS}/api/jobs/"""
    assert launcher.lan.laptop.run(asked).stdout == str(status)


def test_dashboard_and_mlflow_are_out_of_reach(launcher: Launcher) -> None:
    lan = launcher.lan
    for port in (8265, 5000):
        assert lan.head.run(f"curl -s -o /dev/null -m 60 http://127.0.0.1:{port}/").returncode == 0
        for other in (lan.laptop, lan.workers[0]):
            reached = other.run(f"curl -s -o /dev/null -m 60 http://{lan.head.address}:{port}/", check=False)
            assert reached.returncode == 7, f"{other.name}, port {port}: curl says {reached.returncode}, not refused"


def test_only_ssh_and_the_clusters_own_ports_are_open(launcher: Launcher) -> None:
    for host in (launcher.lan.head, *launcher.lan.workers):
        open_to_others = [socket for socket in listening(host) if not socket.loopback]
        shown = ", ".join(f"{socket.program} {socket.port}" for socket in open_to_others)
        tell(f"{host.name} listens to others: {shown}")
        assert left_after(30, partial(strange, host)) == [], "not even once those that just begin or end have done so"
        assert not {5000, 8265} & {socket.port for socket in open_to_others}


def strange(host: Host) -> list[str]:
    """What listens to others on a host and is neither ssh nor Ray."""
    open_to_others = [socket for socket in listening(host) if not socket.loopback]
    return [str(socket) for socket in open_to_others if not any(name in socket.program for name in INTERNAL)]


def moved(launcher: Launcher, study: Watched, victim: Host, trouble: Callable[[], object]) -> str:
    """`trouble` befalls a host; how long until its trial has trained an epoch elsewhere, in words."""
    before, since = len(study.lost()), time.time()
    trouble()

    def told() -> list[int]:
        return study.lost()[before:]

    (number, *_) = wait_for(told, 120, f"the loss of {victim.name}'s trial")
    noticed, known = time.time(), study.epochs_of(number)
    wait_for(lambda: study.epochs_of(number) > known, 300, f"an epoch of trial {number} elsewhere")
    assert busy([host for host in launcher.lan.workers if host is not victim])
    return f"trial {number}: loss told after {noticed - since:.1f} s, an epoch elsewhere {time.time() - since:.1f} s"


def test_a_study_outlives_a_dead_and_a_cut_worker(launcher: Launcher) -> None:
    lan = launcher.lan
    study = Watched(lan.shared / "results" / "digits", lan.root / "study.log")
    flags = f"digits --trials {TRIALS} --epochs {EPOCHS} --scheduler none --output {OUTPUT} --set finals.top=0"
    slow = "--set train.batch_size=2 --set 'space.net.depth=[14]'"
    share = f"--cpus-per-trial {one_each()} --max-concurrent {WORKERS - 1}"
    with step("the study, from the laptop"):
        began = time.time()
        sent = launcher.send(f"{flags} {slow} {share}", study.log)
        wait_for(lambda: len(study.epochs()) >= 6 and len(busy(lan.workers)) == WORKERS - 1, 300, "trials")
        dead, cut = busy(lan.workers)
        tell(f"{time.time() - began:6.1f} s  to the sixth epoch; trials on {dead.name} and {cut.name}")

        killed = moved(launcher, study, dead, lambda: dead.run("kill -9 $(pgrep -x raylet)"))
        tell(f"raylet of {dead.name} killed: {killed}")
        with step(f"{dead.name} is back, by the autoscaler"):
            launcher.nodes(HEAD, WORKERS + 1, 240)

        wait_for(lambda: cut in busy(lan.workers), 240, f"a trial on {cut.name}")
        tell(f"link of {cut.name} cut: {moved(launcher, study, cut, cut.unplug)}")
        cut.plug()
        assert sent.wait(timeout=900) == 0, study.log.read_text()[-6000:]
    study.assert_whole(TRIALS, EPOCHS)
    tracked = lan.head.run(
        "curl -s http://127.0.0.1:5000/api/2.0/mlflow/experiments/get-by-name?experiment_name=resnet-search"
    )
    assert json.loads(tracked.stdout)["experiment"]["artifact_location"].startswith("mlflow-artifacts:")


def test_two_users_at_once_and_a_laptop_that_vanishes(launcher: Launcher) -> None:
    """Ann's goes with a trial at work; another one of hers follows her study, to the answer and the exit status."""
    lan = launcher.lan
    ann, bob = user(lan, "ann", "laptop-ann", f"{NETWORK}.3"), user(lan, "bob", "laptop-bob", f"{NETWORK}.4")
    other = user(lan, "ann", "laptop-ann-2", f"{NETWORK}.5")
    flags = f"--trials 2 --scheduler none --max-concurrent 1 --cpus-per-trial {one_each()}".split()
    studies = [Watched(lan.shared / "results" / each.name, each.log) for each in (ann, bob)]
    with step("two users' studies, one of them followed from another laptop"):
        gone, stayed = (each.send(OUTPUT, *flags, train=SMALL) for each in (ann, bob))
        wait_for(lambda: all(study.epochs() for study in studies), 300, "an epoch of both studies")
        ann.laptop.unplug()
        ann.laptop.power_off()
        followed = other.follow()
        assert followed.returncode == 0, followed.stdout + followed.stderr
        assert stayed.wait(timeout=900) == 0, bob.log.read_text()[-6000:]
    assert gone.wait(60) != 0
    assert "of ann works on it in /mnt/shared/results" in followed.stdout
    home = lan.head.state / "homes" / USER / "mlflow"
    for study in studies:
        report = json.loads((study.folder / "report.json").read_text())
        assert_all_there(report, 2, home / "mlflow.db", home / "artifacts", study.folder.name)
    (answer,) = re.findall(r"^\*\*(.+)\*\*$", (studies[0].folder / "report.md").read_text(), re.MULTILINE)
    assert answer in followed.stdout.splitlines()
    (began, ended), (other_began, other_ended) = ((s.epochs()[0], s.epochs()[-1]) for s in studies)
    assert began.time_ms < other_ended.time_ms, "at once"
    assert other_began.time_ms < ended.time_ms, "at once"


def test_it_goes_down(launcher: Launcher) -> None:
    with step("ray down"):
        launcher.down()
    machines = [launcher.lan.head, *launcher.lan.workers]

    def left() -> list[str]:
        found = "pgrep -a 'raylet|gcs_server|mlflow'; pgrep -fa '^ray::'"
        return [
            f"{host.name}: {line}" for host in machines for line in host.run(found, check=False).stdout.splitlines()
        ]

    with step("nothing of it runs on any host"):
        assert left_after(180, left) == []
