"""A study on a cluster that runs already: RAY_ADDRESS, with the token that the cluster asks for."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest

from tests.mlflow_server import free_port
from tests.study_process import ROOT, command, listening, wait_until

pytestmark = pytest.mark.slow

RAY = Path(sys.executable).with_name("ray")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A real head with one core on loopback; what a user's shell needs to join it."""
    port, temporary = free_port(), mkdtemp(prefix="ray")  # short, for the sockets in it have paths of at most 107 bytes
    joined = os.environ | {
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so that Ray takes 127.0.0.1 for the node's address
    }
    log = tmp_path / "head.log"
    options = f"--head --block --num-cpus=1 --include-dashboard=false --disable-usage-stats --port={port}"
    with log.open("wb") as file:
        head = subprocess.Popen(
            [RAY, "start", *options.split(), "--node-ip-address=127.0.0.1", f"--temp-dir={temporary}"],
            env=joined,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    family = []
    try:
        wait_until(lambda: "To terminate the Ray runtime" in log.read_text(), head, log)
        family = psutil.Process(head.pid).children(recursive=True)
        yield joined | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        assert listening(head) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    finally:
        head.terminate()
        head.wait(30)
        for left in psutil.wait_procs(family, 30)[1]:
            left.kill()
        shutil.rmtree(temporary)


def join(folder: Path, shell: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    arguments = command(folder, "--trials", "2", *flags)
    return subprocess.run(arguments, cwd=folder, env=shell, capture_output=True, text=True, timeout=120, check=False)


def test_a_study_runs_on_the_cluster_and_leaves_it_running(cluster: dict[str, str], tmp_path: Path) -> None:
    ended = join(tmp_path, cluster)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 trials" in ended.stdout

    stranger = cluster | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    refused = join(tmp_path, stranger, "--name", "other")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert f"RAY_ADDRESS = {cluster['RAY_ADDRESS']}" in refused.stderr
