"""Why a real search ends before its trials are done, what it says of that, and what lets it go on."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.empty_database import tracked
from tests.support.journal import reported, studies
from tests.support.notices import serving
from tests.support.study_process import command, run, start, wait_until
from tests.support.whole import Runs, assert_whole, report_of

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]
SHORT = {"epochs": 1, "batch_size": 32, "flip": False}
FLAGS = ("--trials", "1000", "--scheduler", "none")
SECOND = {"RAY_OVERRIDE_LABELS": json.dumps({"usd-per-hour": "3600"})}  # a node that costs a dollar a second


def since_best(errors: list[float]) -> int:
    """Trainings after the first of the lowest error."""
    return len(errors) - 1 - errors.index(min(errors))


@pytest.mark.nightly
def test_patience_ends_a_search_and_more_of_it_goes_on(tmp_path: Path) -> None:
    """One trial at a time: they end in the order of their numbers."""

    def ended(patience: int) -> list[float]:
        flags = (*FLAGS, "--max-concurrent", "1", "--set", f"search.patience={patience} trainings")
        done = run(tmp_path, command(tracked(tmp_path), *flags, train=SHORT))
        assert done.returncode == 0, done.stderr
        report = report_of(tmp_path)
        assert report["stopped"] == f"{patience} complete trainings in a row brought nothing better"
        assert f"Ended early: {report['stopped']}." in done.stdout
        (note,) = Runs(tmp_path / "results" / "mlflow.db").tag("mlflow.note.content").values()
        assert report["stopped"] in note
        assert ("More search: another" in note) == (report["expected_gain"] is not None)
        return [trial["val_error"] for trial in report["trials"]]

    first = ended(3)
    assert [since_best(first[:n]) >= 3 for n in range(1, len(first) + 1)] == [False] * (len(first) - 1) + [True]
    longer = ended(5)
    assert longer[: len(first)] == first
    assert [since_best(longer[:n]) >= 5 for n in range(1, len(longer) + 1)] == [False] * (len(longer) - 1) + [True]
    assert ended(5) == longer, "nothing is left to do"


@pytest.mark.nightly
def test_what_a_budget_ends_between_two_checkpoints_keeps_its_last_weights(tmp_path: Path) -> None:
    train = {"epochs": 500, "batch_size": 2, "flip": False}  # a third of a second an epoch
    flags = ("--trials", "1", "--max-concurrent", "1", "--scheduler", "none", "--set", "search.time_budget=14s")
    done = run(tmp_path, command(tracked(tmp_path), *flags, train=train))
    assert done.returncode == 0, done.stdout + done.stderr
    (trial,) = assert_whole(tmp_path, 1)["trials"]
    assert trial["state"] == "pruned"
    (newest,) = (tmp_path / "results" / "tiny" / "trials" / "0000").glob(f"epoch-{trial['epochs']:06d}")
    assert (newest / "model.safetensors").is_file()


def test_a_target_ends_a_search_and_its_finals_are_told_of(tmp_path: Path) -> None:
    """The server fails twice. What records and pages keep of its address is the host."""
    flags = (*FLAGS, "--max-concurrent", "2", "--set", "search.target={val_error: 100}")
    finals = {"top": 1, "seeds": 2, "max_seeds": 2}
    train = {"epochs": 6, "batch_size": 16, "flip": False}  # so that there is a champion, better than guessing
    with serving(503, 503) as server:
        arguments = command(tracked(tmp_path), *flags, train=train, finals=finals, notify=server.url)
        done = run(tmp_path, arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        again = run(tmp_path, arguments)
        assert again.returncode == 0, again.stderr
    told = [body for _, body in server.got]
    assert [notice["event"] for notice in told] == ["champion", "finished"], "once: the second start had nothing to do"
    report = report_of(tmp_path)
    reached = next(t for t in report["trials"] if f"trial {t['number']} reached the target" in report["stopped"])
    assert reached["state"] == "complete"
    assert len(report["trials"]) <= 3, "two at once, and a third may have begun before the first was judged"
    assert {t["reason"] for t in report["trials"] if t["state"] == "pruned"} <= {report["stopped"]}
    assert told[1]["text"] == f"tiny: {report['answer']}"
    kept = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"secret-in-path" in path.read_bytes()]
    assert "secret-in-path" not in done.stdout + done.stderr


@pytest.mark.nightly
def test_money_is_counted_once_over_kills_and_ends_a_search(tmp_path: Path) -> None:
    """A dollar a second: so many dollars as seconds of work, and no more of these than the starts have lasted."""
    folder, heard = tmp_path / "results" / "tiny", tmp_path / "heard"

    def arguments(dollars: float) -> list[str]:
        flags = (*FLAGS, "--max-concurrent", "1", "--set", f"search.max_cost={dollars:.2f} USD")
        changes = {"train": SHORT, "notify": {"command": ["sh", "-c", 'cat > "$0"', str(heard)]}}
        return command(tracked(tmp_path), *flags, **changes)

    def spent() -> dict[str, float]:
        notes = studies(folder)["tiny"].user_attrs if folder.exists() and studies(folder) else {}
        return {"seconds": notes.get("elapsed", 0.0), "usd": notes.get("cost", {}).get("USD", 0.0)}

    refused = run(tmp_path, arguments(1000))
    assert refused.returncode == 2
    assert "search.max_cost = 1000.00 USD, but node" in refused.stderr
    assert "give it the label usd-per-hour" in refused.stderr

    lasted, known = 0.0, 0
    for part in ("driver", "raylet"):
        before, began = spent(), time.monotonic()
        process, log = start(tmp_path, arguments(1000), os.environ | SECOND)
        wait_until(
            lambda before=before, known=known: spent()["seconds"] > before["seconds"] and len(reported(folder)) > known,
            process,
            log,
        )
        family = psutil.Process(process.pid).children(recursive=True)
        victim = process if part == "driver" else next(one for one in family if one.name() == "raylet")
        victim.send_signal(signal.SIGKILL)
        assert process.wait(240) == (-signal.SIGKILL if part == "driver" else 1), log.read_text()
        lasted, known = lasted + time.monotonic() - began, len(reported(folder))
    halted = json.loads(heard.read_text())
    assert halted["event"] == "halted"
    assert "raylet" in halted["text"]
    assert 0 < spent()["seconds"] <= lasted

    began, limit = time.monotonic(), spent()["usd"] + 8
    ended = run(tmp_path, arguments(limit), os.environ | SECOND)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = report_of(tmp_path)
    total = report["spent"]
    assert total["cost"]["USD"] == pytest.approx(total["seconds"])
    assert limit <= total["cost"]["USD"] <= lasted + time.monotonic() - began
    assert "USD spent" in report["stopped"]
    assert json.loads(heard.read_text())["event"] == "finished"
