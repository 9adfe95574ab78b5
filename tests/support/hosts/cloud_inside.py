"""What runs on the hosts of the fake cloud: `python -m tests.support.hosts.cloud_inside serve|watch|call|fetch ...`."""

import json
import sys
import time
from pathlib import Path
from typing import Any

NO_SPOT = Path("/tmp/no-spot")  # while it exists the spot market is empty


def serve(address: str, port: str) -> None:
    """A fake EC2, IAM and S3 (moto), with spot instances only while there are some."""
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.models.instances import InstanceBackend
    from moto.server import main

    start = InstanceBackend.run_instances

    def run_instances(self: InstanceBackend, *positional: Any, **named: Any) -> Any:
        if named.get("instance_market_options") and NO_SPOT.exists():
            raise EC2ClientError("InsufficientInstanceCapacity", "There is no spot capacity for this request.")
        return start(self, *positional, **named)

    InstanceBackend.run_instances = run_instances
    main(["-H", address, "-p", port])


def watch() -> None:
    """Prints all instances as a line of JSON, at first and whenever something about them changes."""
    import boto3

    ec2, last = boto3.client("ec2"), None
    while True:
        instances = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
        now = {instance["InstanceId"]: described(instance) for instance in instances}
        if now != last:
            sys.stdout.write(json.dumps(now) + "\n")
            sys.stdout.flush()
            last = now
        time.sleep(0.3)


def described(instance: dict[str, Any]) -> dict[str, Any]:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    return {
        "state": instance["State"]["Name"],
        "addresses": [instance[key] for key in ("PrivateIpAddress", "PublicIpAddress") if instance.get(key)],
        "kind": tags.get("ray-user-node-type"),
        "market": instance.get("InstanceLifecycle", "on-demand"),
    }


def call(service: str, method: str, arguments: str) -> None:
    """Prints what a method of the service answers; its arguments are JSON."""
    import boto3

    answer = getattr(boto3.client(service), method)(**json.loads(arguments))
    sys.stdout.write(json.dumps(answer, default=str) + "\n")


def fetch(url: str, folder: str) -> None:
    """Brings a study's records from the bucket."""
    from search.storage import Remote, Replica

    Path(folder).mkdir(parents=True)
    Replica(Path(folder), Remote(url)).fetch()


if __name__ == "__main__":
    {"serve": serve, "watch": watch, "call": call, "fetch": fetch}[sys.argv[1]](*sys.argv[2:])
