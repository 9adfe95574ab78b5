"""What the machines of a cluster on AWS may do there, as IAM writes it."""

from typing import Any

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


def policies(name: str, account: str, bucket: str) -> dict[str, list[dict[str, Any]]]:
    """Role -> its statements, for the cluster `name`."""
    storage = [
        _allow(["s3:ListBucket", "s3:GetBucketLocation"], f"arn:aws:s3:::{bucket}"),
        _allow(
            ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], f"arn:aws:s3:::{bucket}/*"
        ),
    ]
    own = {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": name}}
    machines = [
        _allow(["ec2:Describe*", "ec2:RunInstances", "ec2:CreateTags"], "*"),
        {**_allow(["ec2:TerminateInstances", "ec2:StartInstances", "ec2:StopInstances"], "*"), "Condition": own},
        # A worker carries a role, and who starts it must be allowed to give it.
        _allow(["iam:PassRole"], f"arn:aws:iam::{account}:role/{name}-worker"),
        _allow(["iam:GetInstanceProfile"], f"arn:aws:iam::{account}:instance-profile/{name}-*"),
    ]
    return {f"{name}-head": [*storage, *machines], f"{name}-worker": storage}


def _allow(actions: list[str], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}
