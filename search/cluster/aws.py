"""Makes, once, what cluster.yaml refers to on AWS: `python -m search.cluster.aws`.

A security group that only ssh from one range passes, a private bucket, and a role for the head and for the workers. Run
again it changes what differs, such as the range. Nothing that it makes costs anything by itself.
"""

import argparse
import ipaddress
import json
import sys
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError

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


NAME = "resnet-search"  # of everything, as in cluster.yaml
_EXISTS = {"EntityAlreadyExists", "InvalidGroup.Duplicate", "BucketAlreadyOwnedByYou"}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m search.cluster.aws", description=__doc__)
    parser.add_argument("--region", required=True)
    parser.add_argument("--ssh-from", required=True, type=ssh_range, metavar="RANGE", help="such as 203.0.113.7/32")
    parser.add_argument("--bucket", required=True)
    given = parser.parse_args(arguments)
    ec2 = boto3.client("ec2", region_name=given.region)
    bucket(boto3.client("s3", region_name=given.region), given.bucket, given.region)
    group = security_group(ec2, given.ssh_from)
    account = boto3.client("sts", region_name=given.region).get_caller_identity()["Account"]
    roles(boto3.client("iam"), account, given.bucket)
    sys.stdout.write(
        f"security group {NAME} ({group}): ssh from {given.ssh_from}, nothing else from outside\n"
        f"roles {NAME}-head and {NAME}-worker; bucket s3://{given.bucket}\n"
    )


def ssh_range(text: str) -> str:
    """A range of addresses that is not everyone.

    Raises:
        ArgumentTypeError: it is none, or all.
    """
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no range ({error}); write ADDRESS/32 for one address") from None
    if network.prefixlen < 8:
        raise argparse.ArgumentTypeError(f"{text} is most of the internet; name the range from which you log in")
    return str(network)


def bucket(s3: Any, name: str, region: str) -> None:
    """A bucket that nobody else reads, encrypted as S3 does by default."""
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    _once(s3.create_bucket, Bucket=name, **where)
    closed = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))


def security_group(ec2: Any, ssh_from: str) -> str:
    """The id of the group in the default network: ssh from the range, everything between its members, no more."""
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    _once(ec2.create_security_group, GroupName=NAME, Description="Ray cluster of resnet-search", VpcId=vpc)
    filters = [{"Name": "group-name", "Values": [NAME]}, {"Name": "vpc-id", "Values": [vpc]}]
    found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]
    group = found["GroupId"]
    if found["IpPermissions"]:  # of an earlier run, or of somebody who meant well
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=found["IpPermissions"])
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]}
    among = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh, among])
    return group


def roles(iam: Any, account: str, bucket: str) -> None:
    """What the machines may do: all of them read and write the bucket, the head starts and ends workers."""
    for role, statements in policies(NAME, account, bucket).items():
        _once(iam.create_role, RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_role_policy(RoleName=role, PolicyName=role, PolicyDocument=document)
        _once(iam.create_instance_profile, InstanceProfileName=role)
        if not iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]["Roles"]:
            iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)


def _once(make: Callable[..., Any], **what: Any) -> None:
    try:
        make(**what)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _EXISTS:
            raise


if __name__ == "__main__":
    main()
