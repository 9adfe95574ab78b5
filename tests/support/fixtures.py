"""What several test modules of the command line need."""

import io
import subprocess
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from search.run import main
from tests.support.study_process import outcome


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a cache of its own; nothing of the environment in which the tests run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def run_here(folder: Path, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """As `study_process.run`, in this process, which has imported everything: for what starts no Ray."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        status = main(arguments[3:])
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), outcome(err.getvalue()))


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which a command line is refused."""
    status = main(arguments)
    out, err = capsys.readouterr()
    assert status == 2, (status, out, err)
    assert out == ""
    err = outcome(err)
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, "one line"
    assert "Traceback" not in err
    return err
