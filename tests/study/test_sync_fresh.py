"""`--sync` and `--fresh`: what a tracking server missed, and a study that is begun again."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.empty_database import tracked
from tests.support.fixtures import run_here
from tests.support.journal import reported
from tests.support.mlflow_server import Server
from tests.support.sent import compare
from tests.support.study_process import STUDY, command, run, start, wait_until
from tests.support.whole import Runs, assert_whole, report_of

pytestmark = [pytest.mark.slow, pytest.mark.long]


OTHER = STUDY["data"] | {"limit": 200}


def assert_all_sent(folder: Path, server: Server) -> None:
    sent = compare(folder / "results" / "tiny", server.url)
    assert (sent.missing, sent.foreign) == (0, 0)
    assert sent.points > 0


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_server_that_is_gone_until_after_the_end(tmp_path: Path) -> None:
    """It dies with the first trial; the study ends, says what is unsent; --sync sends it once the server is back."""
    server = Server(tmp_path)
    server.start()
    arguments = command(tmp_path, "--trials", "3", "--max-concurrent", "1", "--tracking-uri", server.url)
    try:
        process, log = start(tmp_path, arguments)
        wait_until(lambda: "[1/3]" in log.read_text(), process, log)
    finally:
        server.kill()
    process.kill()  # and the study with it: it goes on without the server
    process.wait()
    process, log = start(tmp_path, arguments)
    assert process.wait(240) == 0, log.read_text()
    assert "does not answer ([Errno 111] Connection refused); the study goes on" in log.read_text()
    assert "-m search.run tiny --sync" in log.read_text()
    assert len(report_of(tmp_path)["trials"]) == 3

    sync = [*arguments[:3], "tiny", "--sync"]
    away = run(tmp_path, sync)
    assert away.returncode == 2, away.stdout
    assert "does not answer" in away.stderr
    server.start()
    try:
        sent = run(tmp_path, sync)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert "runs were left to send" in sent.stdout
        assert_all_sent(tmp_path, server)
        assert all(trial["mlflow_run_id"] for trial in report_of(tmp_path)["trials"])
        again = run(tmp_path, sync)
        assert again.returncode == 0
        assert "no runs were left to send" in again.stdout
        assert_all_sent(tmp_path, server)
    finally:
        server.kill()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    ended = run(folder, command(tracked(folder), "--trials", "2", "--max-concurrent", "1"))
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.mark.parametrize("flags", [(), ("--sync",)], ids=["same command", "sync"])
def test_a_database_that_was_deleted_is_made_again(finished: Path, flags: tuple[str, ...]) -> None:
    """By a process of its own: MLflow keeps the file open that it has written."""
    results = finished / "results"
    before = assert_whole(finished, trials=2)
    (results / "mlflow.db").unlink()
    ended = run(finished, command(tracked(finished), "--trials", "2", *flags))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ("everything was sent again" in ended.stdout) == bool(flags)
    after = assert_whole(finished, trials=2)
    for trial in after["trials"]:
        assert trial["mlflow_run_id"] not in {t["mlflow_run_id"] for t in before["trials"]}
    ids = set(Runs(results / "mlflow.db").tag("search.trial"))
    assert ids == {trial["mlflow_run_id"] for trial in after["trials"]}


def test_a_study_is_found_by_the_name_of_its_folder(finished: Path) -> None:
    refused = run_here(finished, [*command(finished)[:3], "other", "--sync"])
    assert refused.returncode == 2
    assert "study 'other' is unknown" in refused.stderr
    shown = run_here(finished, [*command(finished)[:3], "tiny"])
    assert shown.returncode == 0, shown.stderr
    assert "complete, 2 trials" in shown.stdout


def test_fresh_deletes_nothing_unless_told(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (finished / "results" / "tiny").rglob("*") if p.name != ".holder"}
    refused = run_here(finished, command(finished, "--fresh"))
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: --fresh would delete study 'tiny' in ")
    assert "with 2 finished trials; add --yes" in line
    after = {p: p.stat().st_mtime_ns for p in (finished / "results" / "tiny").rglob("*") if p.name != ".holder"}
    assert after == before
    assert "--yes confirms --fresh" in run_here(finished, command(finished, "--yes")).stderr


def test_a_damaged_journal_is_told_in_a_sentence(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results", tmp_path / "results")
    journal = tmp_path / "results" / "tiny" / "optuna.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], b"\0" * len(lines[4][:-1]) + b"\n", *lines[5:]]))
    refused = run_here(tmp_path, command(tmp_path, "--trials", "2"))
    assert refused.returncode == 2, refused.stdout
    assert "optuna.journal is damaged in line 5" in refused.stderr


def test_a_study_begun_again(finished: Path) -> None:
    """Other data, which the folder would refuse; what MLflow has of the first one stays."""
    other = command(finished, "--trials", "1", data=OTHER)
    assert run_here(finished, other).returncode == 2
    notes = finished / "results" / "tiny" / "notes.txt"
    notes.write_text("mine")
    ended = run(finished, [*other, "--fresh", "--yes"])
    assert ended.returncode == 0, ended.stderr
    assert [line for line in ended.stdout.splitlines() if "kept" in line] == [f"not of the study, and kept: {notes}"]
    assert notes.read_text() == "mine"
    report = report_of(finished)
    assert len(report["trials"]) == 1
    assert {one.number for one in reported(finished / "results" / "tiny")} == {0}
    assert [p.name for p in (finished / "results" / "tiny" / "trials").iterdir()] == ["0000"]


def test_results_that_were_moved(finished: Path) -> None:
    """The study above: goes on elsewhere, with its checkpoints on yet another disk, and writes nothing where it was."""
    before, elsewhere = report_of(finished), finished / "a" / "studies"
    elsewhere.parent.mkdir()
    (finished / "results").rename(elsewhere)
    (elsewhere / "tiny" / "trials").rename(finished / "large")
    (elsewhere / "tiny" / "trials").symlink_to(finished / "large")
    arguments = command(finished, "--trials", "2", "--max-concurrent", "1", data=OTHER)
    arguments[arguments.index("results")] = "a/studies"
    ended = run(finished, arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "continued after 1 of 2 trials" in ended.stdout
    assert "MLflow has not taken" not in ended.stdout
    assert not (finished / "results").exists()
    report = json.loads((elsewhere / "tiny" / "report.json").read_text())
    assert report["trials"][0] == before["trials"][0], "the same run in MLflow, too"
    assert sorted(p.name for p in (finished / "large").iterdir()) == ["0000", "0001"]
    for trial in report["trials"]:
        assert list((elsewhere / "mlartifacts").rglob(f"{trial['mlflow_run_id']}/artifacts/model.safetensors"))
    arguments[arguments.index("a/studies")] = "a/../a/studies"
    told = run_here(finished, [*arguments, "--fresh"])
    assert "with 2 finished trials; add --yes" in told.stderr
