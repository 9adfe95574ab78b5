"""search/clusters/onprem.yaml on four hosts: a study from a laptop, through a dead worker and a cut one.

The tests are one story, in the order in which they stand.
"""

import json
import time
from collections.abc import Iterator

import pytest

from tests.hosts import derived, needs
from tests.hosts.host import Host
from tests.hosts.lan import HEAD, Lan
from tests.hosts.launcher import JOBS, Launcher
from tests.hosts.sockets import INTERNAL, listening
from tests.hosts.studies import Watched, busy, one_each
from tests.hosts.waiting import step, tell, wait_for

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(needs.missing() is not None, reason=str(needs.missing())),
]
WORKERS = 3  # one more than there are trials at once, so that a lost one need not wait
TRIALS, EPOCHS = 5, 24
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
        nodes = launcher.nodes(HEAD, WORKERS + 1, 120)
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
        assert lan.head.run(f"curl -s -o /dev/null -m 5 http://127.0.0.1:{port}/").returncode == 0
        for other in (lan.laptop, lan.workers[0]):
            reached = other.run(f"curl -s -o /dev/null -m 5 http://{lan.head.address}:{port}/", check=False)
            assert reached.returncode == 7, f"{other.name}, port {port}: curl says {reached.returncode}, not refused"


def test_only_ssh_and_the_clusters_own_ports_are_open(launcher: Launcher) -> None:
    for host in (launcher.lan.head, *launcher.lan.workers):
        open_to_others = [socket for socket in listening(host) if not socket.loopback]
        shown = ", ".join(f"{socket.program} {socket.port}" for socket in open_to_others)
        tell(f"{host.name} listens to others: {shown}")
        strange = [socket for socket in open_to_others if not any(name in socket.program for name in INTERNAL)]
        assert strange == [], host.name
        assert not {5000, 8265} & {socket.port for socket in open_to_others}


def moved(launcher: Launcher, study: Watched, victim: Host, since: float, seconds: float) -> str:
    """Waits until a trial that was on `victim` has trained an epoch elsewhere; how long that took, in words."""
    before = len(study.lost())

    def told() -> list[int]:
        return study.lost()[before:]

    (number, *_) = wait_for(told, seconds, f"the loss of {victim.name}'s trial")
    noticed, known = time.time(), len(study.epochs())
    wait_for(lambda: study.told_of(number, known), 120, f"an epoch of trial {number} elsewhere")
    assert busy([host for host in launcher.lan.workers if host is not victim])
    return f"trial {number}: loss told after {noticed - since:.1f} s, an epoch elsewhere {time.time() - since:.1f} s"


def test_a_study_outlives_a_dead_and_a_cut_worker(launcher: Launcher) -> None:
    lan = launcher.lan
    study = Watched(lan.shared / "results" / "digits", lan.root / "study.log")
    flags = f"digits --trials {TRIALS} --epochs {EPOCHS} --scheduler none --output {OUTPUT}"
    share = f"--cpus-per-trial {one_each()} --max-concurrent {WORKERS - 1} --set 'space.net.depth=[14]'"
    with step("the study, from the laptop"):
        began = time.time()
        sent = launcher.send(f"{flags} {share}", study.log)
        seen = wait_for(lambda: len(study.epochs()) >= 6 and busy(lan.workers), 120, "trials")
        tell(f"{time.time() - began:6.1f} s  to the sixth epoch; trials on {[host.name for host in seen]}")
        assert len(seen) == WORKERS - 1

        dead, cut = seen
        dead.run("kill -9 $(pgrep -x raylet)")
        tell(f"raylet of {dead.name} killed: {moved(launcher, study, dead, time.time(), 60)}")
        with step(f"{dead.name} is back, by the autoscaler"):
            launcher.nodes(HEAD, WORKERS + 1, 90)

        wait_for(lambda: cut in busy(lan.workers), 60, f"a trial on {cut.name}")
        cut.unplug()
        tell(f"link of {cut.name} cut: {moved(launcher, study, cut, time.time(), 60)}")
        cut.plug()
        assert sent.wait(timeout=600) == 0, study.log.read_text()[-6000:]
    study.assert_whole(TRIALS, EPOCHS)
    tracked = lan.head.run(
        "curl -s http://127.0.0.1:5000/api/2.0/mlflow/experiments/get-by-name?experiment_name=resnet-search"
    )
    assert json.loads(tracked.stdout)["experiment"]["artifact_location"].startswith("mlflow-artifacts:")


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
        end = time.monotonic() + 60
        while left() and time.monotonic() < end:
            time.sleep(0.5)
        assert left() == []
