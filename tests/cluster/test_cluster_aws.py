"""`python -m search.cluster.aws` against a fake AWS on loopback, and what the autoscaler prefers."""

import argparse
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from ray.autoscaler._private.node_provider_availability_tracker import (
    NodeAvailabilityRecord,
    NodeAvailabilitySummary,
    UnavailableNodeInformation,
)
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer

from search.cluster import aws
from search.cluster.scorer import score

REGION, BUCKET = "us-west-2", "my-resnet-search"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield
    server.stop()


def rules() -> list[tuple[str, int | None, list[str], int]]:
    """Of the security group: protocol, port, ranges, groups."""
    asked = [{"Name": "group-name", "Values": [aws.NAME]}]
    (group,) = boto3.client("ec2").describe_security_groups(Filters=asked)["SecurityGroups"]
    return [
        (p["IpProtocol"], p.get("FromPort"), [r["CidrIp"] for r in p["IpRanges"]], len(p["UserIdGroupPairs"]))
        for p in group["IpPermissions"]
    ]


@pytest.mark.usefixtures("cloud")
def test_given_again_it_changes_what_differs() -> None:
    for ssh_from in ("198.51.100.0/24", "203.0.113.7/32", "203.0.113.7/32"):
        aws.main(["--region", REGION, "--bucket", BUCKET, "--ssh-from", ssh_from])
        assert rules() == [("tcp", 22, [ssh_from], 0), ("-1", None, [], 1)]
    iam = boto3.client("iam")
    for role in ("resnet-search-head", "resnet-search-worker"):
        profile = iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]
        assert [each["RoleName"] for each in profile["Roles"]] == [role]
    worker = iam.get_role_policy(RoleName="resnet-search-worker", PolicyName="resnet-search-worker")["PolicyDocument"]
    assert {statement["Resource"].partition("/")[0] for statement in worker["Statement"]} == {f"arn:aws:s3:::{BUCKET}"}
    closed = boto3.client("s3").get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert all(closed.values())


@pytest.mark.parametrize("everyone", ["0.0.0.0/0", "0.0.0.0/1", "::/0", "here"])
def test_ssh_is_not_opened_to_everyone(everyone: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        aws.ssh_range(everyone)


def test_spot_first_and_last_where_there_was_none() -> None:
    machine, demand = {"CPU": 4.0, "GPU": 1.0}, [{"CPU": 1.0, "GPU": 1.0}]

    def best(*unavailable: str) -> str:
        reason = UnavailableNodeInformation("InsufficientInstanceCapacity", "none")
        records = {kind: NodeAvailabilityRecord(kind, False, 0.0, reason) for kind in unavailable}
        known: Any = NodeAvailabilitySummary(records)
        scores = {
            kind: score(machine, demand, kind, node_availability_summary=known)
            for kind in ("g5-on-demand", "g5-spot", "g6-spot")
        }
        return max(scores, key=lambda kind: scores[kind] or ())

    assert "spot" in best()
    assert best("g5-spot") == "g6-spot"
    assert best("g5-spot", "g6-spot") == "g5-on-demand"
    assert score(machine, [{"CPU": 64.0}], "g5-spot", node_availability_summary=NodeAvailabilitySummary({})) is None


def test_of_machines_of_two_sizes_the_one_that_a_demand_fills_is_taken_as_by_ray() -> None:
    known: Any = NodeAvailabilitySummary({})
    sizes = {"small-spot": {"CPU": 4.0, "GPU": 1.0}, "large-spot": {"CPU": 16.0, "GPU": 4.0}}
    demand = [{"CPU": 4.0, "GPU": 1.0}]
    for scorer in (score, _default_utilization_scorer):
        scores = {name: scorer(has, demand, name, node_availability_summary=known) for name, has in sizes.items()}
        assert max(scores, key=lambda name: scores[name] or ()) == "small-spot"
