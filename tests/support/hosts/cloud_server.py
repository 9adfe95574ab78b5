"""A fake EC2, IAM and S3 (moto) whose spot market is empty while a file exists: ... cloud_server ADDRESS PORT."""

import sys
from pathlib import Path
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import InstanceBackend
from moto.server import main

NO_SPOT = Path("/tmp/no-spot")
_start = InstanceBackend.run_instances


def run_instances(self: InstanceBackend, *positional: Any, **named: Any) -> Any:
    """As moto does it; spot instances only while there are some."""
    if named.get("instance_market_options") and NO_SPOT.exists():
        raise EC2ClientError("InsufficientInstanceCapacity", "There is no spot capacity for this request.")
    return _start(self, *positional, **named)


if __name__ == "__main__":
    InstanceBackend.run_instances = run_instances
    main(["-H", sys.argv[1], "-p", sys.argv[2]])
