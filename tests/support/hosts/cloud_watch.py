"""Prints all instances of the fake EC2 as a line of JSON, at first and whenever something about them changes."""

import json
import sys
import time
from typing import Any

import boto3


def instances(ec2: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for reservation in ec2.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
            found[instance["InstanceId"]] = {
                "state": instance["State"]["Name"],
                "addresses": [instance[key] for key in ("PrivateIpAddress", "PublicIpAddress") if instance.get(key)],
                "kind": tags.get("ray-user-node-type"),
                "market": instance.get("InstanceLifecycle", "on-demand"),
            }
    return found


def main() -> None:
    ec2, last = boto3.client("ec2"), None
    while True:
        now = instances(ec2)
        if now != last:
            sys.stdout.write(json.dumps(now) + "\n")
            sys.stdout.flush()
            last = now
        time.sleep(0.3)


if __name__ == "__main__":
    main()
