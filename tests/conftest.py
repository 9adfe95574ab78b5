"""Shared by all tests: nothing of this machine's user is read or written, nothing is sent anywhere."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from tests.support import study_process

# Before anything imports Ray or MLflow, here and in every process that a test starts.
os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "RAY_worker_niceness": "0",  # as nice as Ray makes them, workers would starve beside other tests
        "RAY_memory_monitor_refresh_ms": "0",  # it watches the whole machine, and would end a test for what others use
    }
)

# Shapes in annotations are checked in this process, from before the first import of these modules on. Processes that a
# test starts are as a user's: unchecked, for torch.compile cannot look through the checks.
install_import_hook(["resnet.net", "resnet.residual", "resnet.shortcut", "resnet.article"], "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The long form of tests/whole/test_kills.py (`make kills`), and the pictures of docs/mlflow.md."""
    parser.addoption("--kills", type=int, default=1, help="how often each study's driver is killed")
    parser.addoption("--kill-seeds", type=int, default=1, help="studies whose driver is killed")
    parser.addoption("--pictures", type=Path, help="a folder for pictures of MLflow's pages, such as docs/images")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill_seed" in metafunc.fixturenames:
        metafunc.parametrize("kill_seed", range(metafunc.config.getoption("--kill-seeds")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: one of them that is begun last is waited for by all other processes."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_teardown() -> None:
    """A study that a test has started ends with it, also where the test or its preparation failed."""
    study_process.end_all()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared data sets of the tests go to a folder of their own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        yield folder
