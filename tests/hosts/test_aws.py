"""cluster.yaml with a fake EC2 whose instances are hosts: from no workers to spot and back, through an interruption.

The tests are one story, in the order in which they stand.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.storage import Output, paths
from tests.support.hosts import derived, needs
from tests.support.hosts.cloud import REGION, Cloud
from tests.support.hosts.host_files import USER
from tests.support.hosts.launcher import Launcher
from tests.support.hosts.studies import Watched, busy
from tests.support.hosts.waiting import step, tell, wait_for
from tests.support.study_process import ROOT

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(needs.missing() is not None, reason=str(needs.missing())),
]
RANGE = "203.0.113.7/32"
BUCKET = "my-resnet-search"  # as in cluster.yaml
OUTPUT = f"s3://{BUCKET}/studies"
# The GPU of each machine is told only, so trials are not for it.
ALONE = "--gpus-per-trial 0 --set 'space.net.depth=[14]' --scheduler none"


class Aws(Launcher):
    """The launcher of a cluster in the fake cloud."""

    lan: Cloud

    def watched(self, name: str) -> Watched:
        """A study by the head's copy of its records."""
        (head,) = self.lan.running("head")
        cache = head.state / "homes" / USER / ".cache"
        return Watched(
            cache / Output(OUTPUT).path.relative_to(paths.user_cache()) / name, self.lan.root / f"{name}.log"
        )

    def kept(self, name: str) -> Watched:
        """A study by what is in the bucket."""
        return Watched(self.lan.fetch(OUTPUT, name), Path())


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with Cloud(tmp_path_factory.mktemp("aws") / "lan") as cloud:
        yield Aws(cloud, derived.place(derived.aws(), cloud))
    assert cloud.remains() == []


def price(kind: str) -> float:
    """Of an hour, as cluster.yaml says."""
    return float(derived.aws()["available_node_types"][kind]["labels"]["usd-per-hour"])


def prepare(launcher: Aws, ssh_from: str) -> str:
    made = f"python -m search.cluster.aws --region {REGION} --ssh-from {ssh_from} --bucket {BUCKET}"
    return launcher.lan.laptop.run(f"cd {ROOT} && {made}").stdout


def test_ssh_is_open_to_one_range(launcher: Aws) -> None:
    prepare(launcher, "198.51.100.0/24")
    assert RANGE in prepare(launcher, RANGE), "again, with another range"
    with step("ray up: the head, with MLflow"):
        launcher.up()
        launcher.open_tunnel()
    groups = launcher.lan.call("ec2", "describe_security_groups")["SecurityGroups"]
    (group,) = [group for group in groups if "resnet" in group["GroupName"] or "ray" in group["GroupName"]]
    outside = [(r["CidrIp"], p.get("FromPort")) for p in group["IpPermissions"] for r in p["IpRanges"]]
    assert outside == [(RANGE, 22)]
    assert [p["UserIdGroupPairs"][0]["GroupId"] for p in group["IpPermissions"] if p["UserIdGroupPairs"]] == [
        group["GroupId"]
    ]


def test_every_instance_is_as_the_file_says(launcher: Aws) -> None:
    (head,) = launcher.lan.call("ec2", "describe_instances")["Reservations"]
    (instance,) = head["Instances"]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert instance["IamInstanceProfile"]["Arn"].endswith("/resnet-search-head")
    assert [group["GroupName"] for group in instance["SecurityGroups"]] == ["resnet-search"]


def test_from_none_to_spot_through_an_interruption_and_back(launcher: Aws) -> None:
    cloud = launcher.lan
    trials, epochs = 4, 20
    study = launcher.watched("digits")
    assert cloud.kinds() == []
    flags = (
        f"digits --trials {trials} --epochs {epochs} --max-concurrent 2 --output {OUTPUT} --set finals.top=0 {ALONE}"
    )
    with step("the study, from the laptop"):
        began = time.time()
        sent = launcher.send(flags, study.log)
        wait_for(lambda: len(cloud.kinds()) >= 2, 300, "two workers")
        tell(f"{time.time() - began:6.1f} s  to two workers: {cloud.kinds()}")
        assert all("spot" in kind for kind in cloud.kinds())
        working = wait_for(lambda: len(study.epochs()) >= 8 and busy(cloud.running("spot")), 300, "trials")
        tell(f"{time.time() - began:6.1f} s  to the eighth epoch; trials on {len(working)} workers")
        taken = time.time()
        cloud.interrupt(working[0])
        (number, *_) = wait_for(study.lost, 180, "the loss of its trial")
        noticed, known = time.time(), study.epochs_of(number)
        wait_for(lambda: study.epochs_of(number) > known, 300, f"an epoch of trial {number} elsewhere")
        tell(f"{noticed - taken:6.1f} s  to the loss of an interrupted worker, {time.time() - taken:.1f} s to an epoch")
        assert sent.wait(timeout=900) == 0, study.log.read_text()[-6000:]
    launcher.kept("digits").assert_whole(trials, epochs)
    with step("back to no workers, after 18 idle seconds"):
        wait_for(lambda: cloud.kinds() == [], 300, "no workers")


def test_on_demand_where_there_is_no_spot_until_the_money_is_spent(launcher: Aws) -> None:
    """The prices are those of the shipped file. Beyond the budget are a report of each node, and their end."""
    cloud = launcher.lan
    study = launcher.watched("dry")
    (head,) = cloud.running("head")
    budget, of_head, of_worker = 0.03, price("head"), price("g5-on-demand")
    cloud.spot(False)
    with step("a study without spot, with a budget"):
        began = time.time()
        sent = launcher.send(
            f"digits --name dry --trials 100 --epochs 20 --max-concurrent 2 --output {OUTPUT} --set finals.top=0 "
            f"--set 'search.max_cost={budget} USD' {ALONE}",
            study.log,
        )
        wait_for(cloud.kinds, 300, "a worker")
        tell(f"{time.time() - began:6.1f} s  to {cloud.kinds()}")
        nodes = launcher.nodes(head.name, 3, 180)
        assert sorted(float(node["labels"]["usd-per-hour"]) for node in nodes) == [of_head, of_worker, of_worker]
        assert set(cloud.kinds()) == {"g5-on-demand"}
        assert sent.wait(timeout=900) == 0, study.log.read_text()[-6000:]
        seconds = time.time() - began
    cloud.spot(True)
    kept = launcher.kept("dry")
    report, first, last = json.loads((kept.folder / "report.json").read_text()), *kept.first_and_last_epoch()
    spent, rate = report["spent"]["cost"]["USD"], (of_head + 2 * of_worker) / 3600
    trained = spent - rate * (kept.ended() - last)
    longest = max(seconds for number, seconds in kept.seconds_of_epochs() if number > 1)  # 0 and 1 wait for machines
    between = 1.0 + longest  # seconds between two reports of a node, whose epochs are shorter than a second
    tell(
        f"of {budget} USD {trained:.5f} spent when the last epoch ended, {spent:.5f} with the end of the workers; "
        f"{between:.2f} s of each node cost {rate * between:.5f}"
    )
    assert report["stopped"].endswith(f" of {budget:g} USD spent")
    assert budget <= spent
    assert trained <= budget + rate * between
    assert (of_head + of_worker) / 3600 * (last - first) <= spent <= rate * seconds


def test_artifacts_are_in_the_bucket(launcher: Aws) -> None:
    found = launcher.lan.call("s3", "list_objects_v2", Bucket=BUCKET).get("Contents", [])
    assert any(each["Key"].startswith("mlflow/") and each["Key"].endswith("report.html") for each in found)


def test_it_goes_down(launcher: Aws) -> None:
    with step("ray down"):
        launcher.down()
    instances = launcher.lan.instances
    with step("all instances are terminated"):
        wait_for(lambda: {i["state"] for i in launcher.lan.instances.values()} == {"terminated"}, 180, "the end")
    assert len(instances) >= 4, "a head, two spot workers, one on demand"
