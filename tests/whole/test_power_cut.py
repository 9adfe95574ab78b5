"""A machine that loses power: the journal is on the disk, the outbox' last epochs are not."""

import json
from pathlib import Path

import pytest

from tests.support.study_process import command, run, start, wait_until
from tests.support.whole import assert_whole


@pytest.mark.slow
@pytest.mark.long
def test_epochs_that_only_the_journal_has_are_told_again(tmp_path: Path) -> None:
    """MLflow has nothing yet, and the outbox lost all but the first epoch of the trial that was at work."""
    slow = {"epochs": 8, "batch_size": 4, "flip": False}
    arguments = command(tmp_path, "--trials", "2", "--max-concurrent", "1", "--scheduler", "none", train=slow)
    process, log = start(tmp_path, arguments)
    outbox = tmp_path / "results" / "tiny" / "outbox.jsonl"
    wait_until(lambda: outbox.exists() and outbox.read_text().count('"kind":"epoch"') >= 3, process, log)
    process.kill()
    process.wait()
    lines = outbox.read_text().splitlines()
    epochs = [line for line in lines if json.loads(line)["kind"] == "epoch"]
    assert lines[-len(epochs) :] == epochs, "none was forced to the disk by an event after it"
    outbox.write_text("\n".join([*lines[: -len(epochs)], epochs[0], ""]))
    for file in (tmp_path / "results").glob("mlflow.db*"):
        file.unlink()
    ended = run(tmp_path, arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert_whole(tmp_path, 2)
