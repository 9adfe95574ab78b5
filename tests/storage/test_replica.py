"""Records at a URL: whatever was told is there, a log cut short is not, and one process at a time adds to them."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.errors import Halted, InputError
from search.storage import Lease, Remote, Replica, lease, replica

ROOT = Path(__file__).parents[2]


def pair(tmp_path: Path) -> tuple[Path, Path, str]:
    """The folder of a process, the one that plays the store, and the store's URL."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(parents=True)
    there.mkdir()
    return here, there, f"file://{there}"


def begun(folder: Path, url: str) -> Replica:
    """What a process that starts has."""
    replica = Replica(folder, Remote(url))
    replica.fetch()
    return replica


def fetched(url: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    begun(folder, url)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def append(log: Path, line: bytes) -> None:
    with log.open("ab") as file:
        file.write(line)


def test_files_and_the_journal_come_back(tmp_path: Path) -> None:
    here, there, url = pair(tmp_path)
    mine, log = begun(here, url), here / "optuna.journal"
    for line in (b"one\n", b"two\nthree\n", b"half a li"):
        append(log, line)
        mine.send(log)
    (here / "study.yaml").write_text("name: x\n")
    mine.send(here / "study.yaml")
    assert [p.name for p in (there / "optuna.journal").iterdir()] == [f"{0:012d}-{14:012d}"], "one piece, whole"
    assert fetched(url, tmp_path / "elsewhere") == {"optuna.journal": b"one\ntwo\nthree\n", "study.yaml": b"name: x\n"}
    assert replica.journal(url) == b"one\ntwo\nthree\n"
    assert replica.read(url, "study.yaml") == b"name: x\n"


def test_what_was_never_sent_is_forgotten(tmp_path: Path) -> None:
    here, _, url = pair(tmp_path)
    mine, log = begun(here, url), here / "optuna.journal"
    append(log, b"told\n")
    mine.send(log)
    append(log, b"killed before this was sent\n")
    (here / "report.md").write_text("of nothing that counts")
    again = begun(here, url)
    assert {p.name: p.read_bytes() for p in here.iterdir()} == {"optuna.journal": b"told\n"}
    append(log, b"next\n")
    again.send(log)
    assert fetched(url, tmp_path / "elsewhere") == {"optuna.journal": b"told\nnext\n"}


def test_nothing_is_sent_before_it_is_known_what_is_there(tmp_path: Path) -> None:
    here, there, url = pair(tmp_path)
    append(here / "optuna.journal", b"of another study\n")
    Replica(here, Remote(url)).send(here / "optuna.journal")
    assert list(there.iterdir()) == []


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["sent", "torn", "kept", "again", "later"])), min_size=1))
def test_any_history_of_deaths(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[int, str]],
) -> None:
    """A process adds lines, and may die while a piece is put, or before the one before is deleted, or goes on."""
    monkeypatch.setattr(replica, "PIECE", 12)
    here, there, url = pair(tmp_path_factory.mktemp("history"))
    log, copies = here / "optuna.journal", there / "optuna.journal"
    told = b""
    mine = begun(here, url)
    for count, (size, fate) in enumerate(steps):
        append(log, f"{count:0{size}d}\n".encode())
        written = log.read_bytes()
        pieces = {path: path.read_bytes() for path in copies.iterdir()} if copies.exists() else {}
        if fate == "torn":  # cut short, and its process gone: nobody was told
            copies.mkdir(exist_ok=True)
            for start in {0, len(told)} | {int(path.name[:12]) for path in pieces}:
                (copies / f"{start:012d}-{len(written):012d}").write_bytes(written[start:-1])
            mine = begun(here, url)
            assert (log.read_bytes() if log.exists() else b"") == told
        elif fate != "later":  # with the lines that follow
            mine.send(log)
            told = written
            if fate == "kept":
                for path, data in pieces.items():
                    path.write_bytes(data)
            if fate in ("kept", "again"):
                mine = begun(here, url)
            assert log.read_bytes() == told
        assert replica.journal(url) == told
    assert fetched(url, here.parent / "elsewhere").get("optuna.journal", b"") == told
    assert sum(path.stat().st_size for path in (copies.iterdir() if copies.exists() else ())) == len(told), "once"


def test_a_long_journal_is_not_sent_again_and_again(tmp_path: Path) -> None:
    """18 MB in 2,000 steps, as of 1,000 trials of 30 epochs."""
    here, there, url = pair(tmp_path)
    mine, log, sent = begun(here, url), here / "optuna.journal", 0
    for _ in range(2000):
        append(log, b"x" * 8999 + b"\n")
        mine.send(log)
        last = max((there / "optuna.journal").iterdir())
        sent += last.stat().st_size
    assert sent < 0.6e9
    assert len(list((there / "optuna.journal").iterdir())) < 40
    assert replica.journal(url) == log.read_bytes()


HOLD = """
import sys
from search.storage.lease import Lease
held = Lease(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
held.leave()
"""


def holder(url: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.long
def test_a_second_process_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the first one leaves, or is dead."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    url = f"file://{tmp_path}"
    for last in ("leave", "kill"):
        with holder(url) as first:
            with pytest.raises(InputError, match=rf"is being worked on by process {first.pid} on "):
                Lease(url)
            if last == "kill":
                first.send_signal(signal.SIGKILL)
                first.wait()
            else:
                first.communicate("")
        mine = Lease(url)
        mine.check()
        mine.leave()


def written(tmp_path: Path, beats: int, machine: str = "another boot") -> None:
    entry = {"pid": os.getpid(), "host": "far", "machine": machine, "id": "theirs", "beats": beats}
    (tmp_path / ".lock").write_text(json.dumps(entry))


def test_a_machine_that_went_silent_loses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE", 2.5)
    written(tmp_path, 7)
    mine = Lease(f"file://{tmp_path}")
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    mine.leave()
    assert not (tmp_path / ".lock").exists()


def test_one_that_was_taken_for_dead_writes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE", 0.0)
    monkeypatch.setattr(lease, "SETTLED", 0.01)
    mine = Lease(f"file://{tmp_path}")
    mine.check()
    written(tmp_path, 1)
    with pytest.raises(Halted, match="another process has taken over"):
        mine.check()
    mine.leave()
    assert json.loads((tmp_path / ".lock").read_text())["id"] == "theirs"


def test_a_url_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"output: file://.* cannot be .*; correct the URL, or your access to it"):
        Lease(f"file://{tmp_path}/file/study")
    with pytest.raises(InputError, match=r"nosuch://x cannot be used .*; install what its scheme needs"):
        Remote("nosuch://x")


def test_a_process_that_lives_sends_what_came_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each sign of life, as long as nobody has taken over."""
    monkeypatch.setattr(lease, "BEAT", 0.01)
    monkeypatch.setattr(lease, "SETTLED", 0.01)
    beaten = threading.Event()
    mine = Lease(f"file://{tmp_path}", beaten.set)
    assert beaten.wait(20)
    (thread,) = (t for t in threading.enumerate() if t.name == "lease")
    while thread.is_alive():
        written(tmp_path, 1)
        thread.join(0.1)
    with pytest.raises(Halted, match="another process has taken over"):
        mine.check()
    mine.leave()
