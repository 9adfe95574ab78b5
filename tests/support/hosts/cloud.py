"""A network with a fake AWS in it, whose instances become hosts.

`ray up` with provider aws then runs whole, spot requests, autoscaler and all: an instance that is started is switched
on with the addresses that EC2 gave it, and lets the key pair in that Ray made; one that is terminated loses its power.
"""

import json
import shlex
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.support.hosts.host import Host
from tests.support.hosts.lan import Lan
from tests.support.hosts.waiting import tell, wait_for
from tests.support.study_process import ROOT

ADDRESS = "172.31.255.250"  # of the service; beside those that moto gives to instances
URL = f"http://{ADDRESS}:5000"
REGION = "us-west-2"  # as in cluster.yaml
SHELL = f"""\
export AWS_ENDPOINT_URL={URL} MLFLOW_S3_ENDPOINT_URL={URL} AWS_DEFAULT_REGION={REGION}
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
"""
OFF = {"shutting-down", "terminated", "stopping", "stopped"}


class Cloud(Lan):
    """A laptop and the service; `instances` is what EC2 knows: id -> state, addresses, kind, market."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, workers=None, shell=SHELL)
        self.instances: dict[str, dict[str, Any]] = {}
        self._began, self._fault = time.monotonic(), ""
        self._follower = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._aws = self.add("aws", [ADDRESS], self.key.with_name(f"{self.key.name}.pub").read_text())
            serving = f"env -C {ROOT} python -m tests.support.hosts.cloud_server {ADDRESS} 5000"
            with (self.root / "aws.log").open("w") as log:
                self._aws.start(serving, stdout=log, stderr=subprocess.STDOUT)
            alive = f"curl -sf -o /dev/null {URL}/moto-api/"
            wait_for(lambda: self._aws.run(alive, check=False).returncode == 0, 180, "the fake AWS", every=0.5)
            with (self.root / "watch.log").open("w") as log:
                self._watch = self._aws.start(
                    f"env -C {ROOT} python -m tests.support.hosts.cloud_watch", stdout=subprocess.PIPE, stderr=log
                )
            self._follower.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        with ExitStack() as off:
            off.callback(super().__exit__)
            if "aws" in self.hosts:  # first, so that no instance is switched on after the others went off
                self.hosts["aws"].power_off()
            if self._follower.is_alive():
                self._follower.join(120)

    def call(self, service: str, method: str, **arguments: Any) -> dict[str, Any]:
        """What the service answers."""
        text = shlex.quote(json.dumps(arguments))
        return json.loads(
            self._aws.run(f"cd {ROOT} && python -m tests.support.hosts.cloud_call {service} {method} {text}").stdout
        )

    def fetch(self, url: str, name: str) -> Path:
        """The records of a study in the bucket, once they have been brought here."""
        self._aws.run(f"cd {ROOT} && python -m tests.support.hosts.cloud_fetch {url}/{name} /mnt/shared/fetched/{name}")
        return self.shared / "fetched" / name

    def running(self, word: str = "") -> list[Host]:
        """Hosts of instances that run, of kinds with this in their name."""
        assert not self._fault, self._fault
        on = [key for key, seen in list(self.instances.items()) if seen["state"] == "running" and self._is(seen, word)]
        return [self.hosts[key] for key in on if key in self.hosts]

    def kinds(self) -> list[str]:
        """Of the workers that run."""
        assert not self._fault, self._fault
        seen = list(self.instances.values())
        return [each["kind"] for each in seen if each["state"] == "running" and each["kind"] not in (None, "head")]

    def interrupt(self, host: Host) -> None:
        """The cloud takes a spot instance back, without a notice."""
        host.power_off()
        self.call("ec2", "terminate_instances", InstanceIds=[host.name])

    def spot(self, there: bool) -> None:
        """Whether the market has any."""
        self._aws.run("rm -f /tmp/no-spot" if there else "touch /tmp/no-spot")

    def _is(self, seen: dict[str, Any], word: str) -> bool:
        return word in (seen["kind"] or "")

    def _follow(self) -> None:
        assert self._watch.stdout is not None
        try:
            for line in self._watch.stdout:
                self.instances = json.loads(line)
                for key, seen in self.instances.items():
                    self._apply(key, seen)
            self._fault = "nobody watches the instances any more; see watch.log"
        except Exception as error:  # tests are told when they next ask
            self._fault = f"{type(error).__name__}: {error}"

    def _apply(self, key: str, seen: dict[str, Any]) -> None:
        host = self.hosts.get(key)
        if host is None and seen["state"] == "running" and seen["addresses"]:
            (pair,) = (self.laptop.state / "home/.ssh").glob("ray-autoscaler*.pem")
            public = subprocess.run(["ssh-keygen", "-y", "-f", pair], check=True, capture_output=True, text=True).stdout
            self.add(key, seen["addresses"], public)
            self._tell("on", seen)
        elif host is not None and seen["state"] in OFF and host.on:
            host.power_off()
            self._tell("off", seen)

    def _tell(self, what: str, seen: dict[str, Any]) -> None:
        tell(f"at {time.monotonic() - self._began:5.1f} s: {seen['kind']} ({seen['market']}) {what}")
