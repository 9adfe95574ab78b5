"""What a finished study lacks afterwards: the same command, or --sync, makes it again or says why it cannot."""

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import resnet
from tests.support.concluded import arguments, assert_concluded
from tests.support.fixtures import run_here
from tests.support.study_process import run

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    ended = run(folder, arguments(folder))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Champion:          results/tiny/champion" in ended.stdout
    assert_concluded(folder)
    return folder


@pytest.fixture
def study(finished: Path) -> Path:
    """Its folder, as the test before it should have left it."""
    assert run_here(finished, arguments(finished)).returncode == 0
    return finished / "results" / "tiny"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".holder"}


def test_nothing_is_done_where_nothing_is_missing(study: Path, finished: Path) -> None:
    """The model card and the images are the user's to change or to remove."""
    (study / "champion" / "examples.npy").unlink()
    (study / "champion" / "README.md").write_text("mine")
    before = contents(study)
    assert run_here(finished, arguments(finished)).returncode == 0
    assert contents(study) == before


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_the_end(study: Path) -> None:
    """As a kill leaves it that comes before the end is recorded, when all else has been sent."""
    journal, cursor = study / "optuna.journal", study / "mlflow.json"
    *before, last = journal.read_text().splitlines(keepends=True)
    assert "conclusion" in last
    journal.write_text("".join(before))
    sent = json.loads(cursor.read_text())
    del sent["sent"]["conclusion"]
    cursor.write_text(json.dumps(sent))
    with closing(sqlite3.connect(study.parent / "mlflow.db")) as database, database:
        database.execute(
            "update runs set status = 'RUNNING', end_time = null where run_uuid in "
            "(select run_uuid from tags where key = 'search.kind' and value = 'study')"
        )


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no champion": lambda study: shutil.rmtree(study / "champion"),
    "half a description": lambda study: halved(study / "champion" / "config.json"),
    "no weights": lambda study: (study / "champion" / "model.safetensors").unlink(),
    "half a graph": lambda study: halved(study / "champion" / "model.onnx"),
    "no page": lambda study: (study / "report.html").unlink(),
    "half a report": lambda study: halved(study / "report.json"),
    "no end": without_the_end,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_lost_is_made_again(damage: str, study: Path, finished: Path) -> None:
    DAMAGE[damage](study)
    again = run_here(finished, arguments(finished))
    assert again.returncode == 0, again.stderr
    assert "Champion:          results/tiny/champion" in again.stdout
    assert_concluded(finished)


def test_sync_makes_it_again_too(study: Path, finished: Path) -> None:
    shutil.rmtree(study / "champion")
    without_the_end(study)
    sent = run_here(finished, [*arguments(finished)[:3], "tiny", "--sync"])
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert_concluded(finished)


def test_sync_says_what_it_cannot_finish(study: Path, finished: Path) -> None:
    """Killed as it went on with two trials more; asked for no more, the study is over as before."""
    file = study / "study.yaml"
    file.write_text(file.read_text().replace("trials: 3\n", "trials: 5\n"))
    sent = run_here(finished, [*arguments(finished)[:3], "tiny", "--sync"])
    assert sent.returncode == 0, sent.stderr
    assert "tiny is not complete, after 3 of 5 trials; without --sync the command continues it" in sent.stdout
    assert run_here(finished, arguments(finished)).returncode == 0
    assert_concluded(finished)


def test_a_champion_whose_checkpoint_is_gone(study: Path, finished: Path) -> None:
    """The answer stands, the reason is the last line, and nothing is called done before it is."""
    shutil.rmtree(study / "champion")
    (study / "finals").rename(study / "elsewhere")
    for command in (arguments(finished), [*arguments(finished)[:3], "tiny", "--sync"]):
        refused = run_here(finished, command)
        assert refused.returncode == 1, refused.stdout
        (line,) = refused.stderr.splitlines()
        assert line.startswith("error: the champion is not exported: trial ")
        assert " has no whole checkpoint of epoch 3 in " in line
        assert line.endswith("; restore it from a copy, and run the same command again: it continues")
        assert "Champion:" not in refused.stdout
    assert not (study / "champion").exists()
    (study / "elsewhere").rename(study / "finals")
    assert run_here(finished, arguments(finished)).returncode == 0
    assert_concluded(finished)


def test_without_onnx(study: Path, finished: Path) -> None:
    """The champion is exported as weights, and a line says what it lacks; where ONNX is back, so is the graph."""
    shutil.rmtree(study / "champion")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            patch.setitem(sys.modules, name, None)  # it cannot be imported
        again = run_here(finished, arguments(finished))
    assert again.returncode == 0, again.stderr
    lack = "(without model.onnx, which MLflow's registry needs: pip install 'resnet-search[export]')"
    assert f"Champion:          results/tiny/champion {lack}\n" in again.stdout
    files = {"README.md", "config.json", "examples.npy", "model.safetensors", "SHA256SUMS"}
    assert {path.name for path in (study / "champion").iterdir()} == files
    assert "onnx" not in (study / "champion" / "README.md").read_text()
    assert resnet.load(study / "champion").classes == tuple("0123456789")
    whole = run_here(finished, arguments(finished))
    assert "Champion:          results/tiny/champion\n" in whole.stdout
    assert_concluded(finished)


def test_what_no_export_wrote_stays(study: Path, finished: Path) -> None:
    halved(study / "champion" / "model.onnx")
    mine = study / "champion" / "notes.txt"
    mine.write_text("mine")
    before = contents(study / "champion")
    refused = run_here(finished, arguments(finished))
    assert refused.returncode == 1
    assert f"no export has written {mine}, which a new one would replace; move it away" in refused.stderr
    assert contents(study / "champion") == before
    mine.rename(study / "notes.txt")
    assert run_here(finished, arguments(finished)).returncode == 0
    assert (study / "notes.txt").read_text() == "mine"
    assert_concluded(finished)


def test_what_a_dead_run_left_is_removed(study: Path, finished: Path) -> None:
    """Killed between the two renames: the earlier champion is where it was; half a file of a report is gone."""
    before = contents(study)
    (study / "champion").rename(study / ".champion.0123.old")
    shutil.copytree(study / ".champion.0123.old", study / ".champion.4567.partial")
    (study / ".champion.4567.partial" / "model.onnx").unlink()
    (study / ".report.html.4194305.tmp").write_text("<html>")  # above any process' number
    assert run_here(finished, arguments(finished)).returncode == 0
    assert contents(study) == before
