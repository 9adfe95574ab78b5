"""A study on a cluster that runs already: RAY_ADDRESS, with the token that the cluster asks for."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import RayCluster, cluster
from tests.support.empty_database import tracked
from tests.support.study_process import command, listening, run

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.mark.nightly
def test_a_study_runs_on_the_cluster_and_leaves_it_running(joined: RayCluster, tmp_path: Path) -> None:
    ended = run(tmp_path, command(tracked(tmp_path), "--trials", "2"), joined.shell)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 trials" in ended.stdout

    stranger = joined.shell | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    refused = run(tmp_path, command(tmp_path, "--trials", "2", "--name", "other"), stranger)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert f"RAY_ADDRESS = {joined.address}" in refused.stderr
    assert listening(joined.process) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
