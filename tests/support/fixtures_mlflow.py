"""Fixtures that run a real MLflow server."""

from collections.abc import Iterator

import pytest

from tests.support.mlflow_server import Server


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()
