"""A study on a cluster that runs already: RAY_ADDRESS, with the token that the cluster asks for."""

import secrets
from pathlib import Path

import pytest

from tests.cluster import cluster
from tests.study_process import command, listening, run

pytestmark = pytest.mark.slow


def test_a_study_runs_on_the_cluster_and_leaves_it_running(tmp_path: Path) -> None:
    with cluster(tmp_path) as joined:
        ended = run(tmp_path, command(tmp_path, "--trials", "2"), joined.shell)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "2 trials" in ended.stdout

        stranger = joined.shell | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        refused = run(tmp_path, command(tmp_path, "--trials", "2", "--name", "other"), stranger)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert f"RAY_ADDRESS = {joined.address}" in refused.stderr
        assert listening(joined.process) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
