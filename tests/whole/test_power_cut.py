"""A machine that loses power, and whose disk has lost more of the journal than it promised."""

import os
from pathlib import Path

import pytest

from tests.support.journal import reported
from tests.support.study_process import command, run, start, wait_until
from tests.support.whole import assert_whole


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("mlflow", ["lost", pytest.param("kept", marks=pytest.mark.nightly)])
def test_a_journal_that_was_cut_short(tmp_path: Path, mlflow: str) -> None:
    """Epochs that MLflow has, or has lost too, are gone, and one is half there; in the end each is there once."""
    slow = {"epochs": 8, "batch_size": 4, "flip": False}
    arguments = command(tmp_path, "--trials", "2", "--max-concurrent", "1", "--scheduler", "none", train=slow)
    study = tmp_path / "results" / "tiny"
    process, log = start(tmp_path, arguments)
    wait_until(lambda: len(reported(study)) >= 4 and (study / "mlflow.json").exists(), process, log)
    process.kill()
    process.wait()
    journal, known = study / "optuna.journal", len(reported(study))
    lines = journal.read_bytes().splitlines(keepends=True)
    epochs = [n for n, line in enumerate(lines) if b'"epoch:' in line]
    os.truncate(journal, sum(map(len, lines[: epochs[-3]])) + len(lines[epochs[-3]]) // 2)
    if mlflow == "lost":
        for file in (tmp_path / "results").glob("mlflow.db*"):
            file.unlink()
    ended = run(tmp_path, arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(reported(study)) == 16 > known
    assert_whole(tmp_path, 2)
