"""`python -m search.report`: the report of a real study, made again from its records, while it runs and afterwards."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jsonschema
import optuna
import pytest
from filelock import FileLock

from search.report import __main__, files
from search.storage import Output
from tests.support.object_store import at_url, object_store
from tests.support.study_process import STUDY, command, run, start, wait_until

SCHEMA = json.loads((Path(files.__file__).parent / "assets" / "report.schema.json").read_text(encoding="utf-8"))
pytestmark = pytest.mark.timeout(600)  # the whole study is run in the first test
AGAIN = [sys.executable, "-m", "search.report", "tiny", "--output", "results"]
WITH_FINALS = {
    "search": STUDY["search"] | {"trials": 5, "scheduler": "none"},
    "finals": {"top": 2, "seeds": 2, "max_seeds": 2},
}


def content(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "results" / "tiny" / "report.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return found


def digests(folder: Path) -> dict[str, str]:
    """Of everything in the output folder but reports."""
    kept = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("report."))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


Reported = tuple[Path, dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A study with finals in its folder; the report that was made while it ran, and the one that it ended with."""
    folder = tmp_path_factory.mktemp("reported")
    process, log = start(folder, command(folder, **WITH_FINALS))
    wait_until(lambda: "[1/5]" in log.read_text(), process, log, seconds=300)
    made = run(folder, AGAIN)
    assert process.poll() is None
    assert made.returncode == 0, made.stderr
    early = content(folder)
    assert process.wait(240) == 0, log.read_text()
    return folder, early, content(folder)


@pytest.mark.slow
def test_a_running_study_is_reported_and_goes_on(finished: Reported) -> None:
    _, early, late = finished
    assert (early["concluded"], late["concluded"]) == (False, True)
    assert 1 <= len(early["trials"]) <= 5
    for before, after in zip(early["trials"], late["trials"], strict=False):
        assert before["params"] == after["params"]
        assert before["curve"] == after["curve"][: len(before["curve"])]
    assert early["finals"] is None or not early["finals"]["complete"]
    assert all(early[key] == late[key] for key in ("settings", "data", "hardware"))
    assert [len(f["runs"]) for f in late["finals"]["finalists"]] == [2, 2]


@pytest.mark.slow
def test_the_gain_of_as_long_again_follows_from_the_trials(finished: Reported) -> None:
    folder, _, late = finished
    errors = sorted(trial["val_error"] for trial in late["trials"] if trial["state"] == "complete")
    a, b, c, d, e = errors
    gain = late["expected_gain"]
    assert 0 < gain["seconds"] < late["elapsed_seconds"]  # of the search alone
    assert gain["points"] == pytest.approx(((b - a) / 2 + (c - b) / 4 + (d - c) / 8 + (e - d) / 16) / 2)
    assert gain["tenth"] == pytest.approx(d - a)
    assert re.search(rf"another .* {gain['points']:.2f} points", (folder / "results/tiny/report.md").read_text())


@pytest.mark.slow
def test_made_again_it_says_the_same_and_touches_nothing_else(finished: Reported) -> None:
    folder, _, late = finished
    study = folder / "results" / "tiny"
    for path in (study / "report.html", study / "report.md", study / "report.json"):
        path.unlink()
    with FileLock(study / ".lock"):  # as a driver at work holds it
        before = digests(folder / "results")
        made = run(folder, AGAIN)
        assert digests(folder / "results") == before
    assert made.returncode == 0, made.stderr
    assert made.stdout == (
        "The report of tiny, 5 of 5 trials and 4 trainings of 2 finalists: results/tiny/report.html\n"
    )
    again = content(folder)
    assert again["concluded"] is False  # there was no report with which the study had ended
    assert again | {"concluded": True} == late
    assert again["cost"]["unit"] == "core-hours"
    spent = [run["seconds"] for finalist in again["finals"]["finalists"] for run in finalist["runs"]]
    assert again["cost"]["finals"] == pytest.approx(sum(spent) / 3600)  # one core each


@pytest.mark.slow
def test_trials_in_a_database(finished: Reported, tmp_path: Path) -> None:
    folder, _, late = finished
    shutil.copytree(folder / "results", tmp_path / "results")
    journal = tmp_path / "results" / "tiny" / "optuna.journal"
    kept = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    url = f"sqlite:///{tmp_path}/trials.db"
    for name in optuna.get_all_study_names(kept):
        optuna.copy_study(from_study_name=name, from_storage=kept, to_storage=url)
    journal.unlink()
    before = (tmp_path / "trials.db").read_bytes()
    made = run(tmp_path, [*AGAIN, "--storage", url])
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "trials.db").read_bytes() == before
    again = content(tmp_path)
    assert again["trials"] == late["trials"]
    assert again["finals"] == late["finals"]


@pytest.mark.slow
def test_a_study_at_a_url_is_reported_on_another_machine(
    finished: Reported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its records are there alone, and stay as they are; its report is written here."""
    folder, _, late = finished
    with object_store(tmp_path) as store:
        place = at_url(folder / "results" / "tiny", f"{store}/results/tiny")
        place.put("report.json", json.dumps(late).encode())  # with which it ended
        for file in (folder / "results" / "tiny" / "finals").glob("*/epoch-*/*"):  # what it says of the test images
            number, epoch, name = file.parts[-3:]
            place.put(f"finals/{number}/{epoch}-{0:08x}/{name}", file.read_bytes())
        before = {name: place.get(name) for name in place.files()}
        output = Output(f"{store}/results")
        assert not (output.path / "tiny").exists()
        assert __main__.main(["tiny", "--output", str(output)]) == 0
        assert {name: place.get(name) for name in place.files()} == before
        assert str(output.path / "tiny" / "report.html") in capsys.readouterr().out
        again = json.loads((output.path / "tiny" / "report.json").read_text())
        assert again == late
        assert "study 'none' is not in 's3://" in refused(capsys, "none", "--output", str(output))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which these arguments are refused."""
    assert __main__.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_bad_input_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ("--output", str(tmp_path))
    assert "holds no study; run `python -m search.run`" in refused(capsys, "digits", *here)
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "study.yaml").write_text("name: digits\ndata: digits\nspace:\n  net.depth: [8, 14]\n")
    assert "did you mean 'digits'?" in refused(capsys, "digit", *here)
    assert "has not begun; start it with `python -m search.run digits`" in refused(capsys, "digits", *here)
    begun = json.dumps({"op_code": 0, "worker_id": "w", "study_name": "digits-1", "directions": [1]})
    (tmp_path / "digits" / "optuna.journal").write_text(f"{begun}\nnonsense\n")
    said = refused(capsys, "digits", *here)
    assert f"{tmp_path}/digits/optuna.journal is damaged in line 2" in said
    assert "`python -m search.report --help` lists what can be given" in refused(capsys, "digits", "--nonsense")
    assert "the following arguments are required: study" in refused(capsys)
