"""Records at a URL: whatever was told is there, a piece cut short is not, and one process at a time adds to them."""

import json
import os
import signal
import subprocess
import sys
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


def fetched(url: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    Replica(folder, Remote(url)).fetch()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_and_logs_come_back(tmp_path: Path) -> None:
    here, there, url = pair(tmp_path)
    mine = Replica(here, Remote(url))
    log = here / "outbox.jsonl"
    for line in (b"one\n", b"two\nthree\n", b"half a li"):
        with log.open("ab") as file:
            file.write(line)
        mine.log(log)
    (here / "study.yaml").write_text("name: x\n")
    mine.file(here / "study.yaml")
    assert sorted(p.name for p in (there / "outbox.jsonl").iterdir()) == [
        "000000000000-000000000004",
        "000000000004-000000000014",
    ]
    found = fetched(url, tmp_path / "elsewhere")
    assert found == {"outbox.jsonl": b"one\ntwo\nthree\n", "study.yaml": b"name: x\n"}
    assert [p.name for p in (there / "outbox.jsonl").iterdir()] == ["000000000000-000000000014"], "made one"


def test_what_was_never_sent_is_forgotten(tmp_path: Path) -> None:
    here, _, url = pair(tmp_path)
    mine = Replica(here, Remote(url))
    (here / "optuna.journal").write_bytes(b"told\n")
    mine.log(here / "optuna.journal")
    with (here / "optuna.journal").open("ab") as file:
        file.write(b"killed before this was sent\n")
    (here / "report.md").write_text("of nothing that counts")
    again = Replica(here, Remote(url))
    again.fetch()
    assert {p.name: p.read_bytes() for p in here.iterdir()} == {"optuna.journal": b"told\n"}
    with (here / "optuna.journal").open("ab") as file:
        file.write(b"next\n")
    again.log(here / "optuna.journal")
    assert fetched(url, tmp_path / "elsewhere") == {"optuna.journal": b"told\nnext\n"}


def test_a_gap_is_told(tmp_path: Path) -> None:
    here, there, url = pair(tmp_path)
    mine = Replica(here, Remote(url))
    for size in (4, 5, 6):
        with (here / "outbox.jsonl").open("ab") as file:
            file.write(b"x" * (size - 1) + b"\n")
        mine.log(here / "outbox.jsonl")
    (there / "outbox.jsonl" / "000000000004-000000000009").unlink()
    with pytest.raises(
        InputError, match=r"outbox\.jsonl lacks bytes 4 to 9; restore them from a copy, or delete file:"
    ):
        fetched(url, tmp_path / "elsewhere")


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["sent", "torn", "doubled", "again"])), min_size=1),
    st.integers(1, 4),
)
def test_any_history_of_deaths(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]], merged: int
) -> None:
    """A process adds lines, and may die while a piece is written, or before the pieces that were made one are gone."""
    here, there, url = pair(tmp_path_factory.mktemp("history"))
    log, pieces = here / "outbox.jsonl", there / "outbox.jsonl"
    told = b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replica, "MERGED", merged)
        mine = Replica(here, Remote(url))
        for count, (size, fate) in enumerate(steps):
            line = f"{count:0{size}d}\n".encode()
            with log.open("ab") as file:
                file.write(line)
            begin, end = len(told), len(told) + len(line)
            name = pieces / f"{begin:012d}-{end:012d}"
            if fate == "torn":  # cut short, and its process gone: nobody was told
                pieces.mkdir(exist_ok=True)
                name.write_bytes(line[:-1])
                mine = Replica(here, Remote(url))
                mine.fetch()
                assert log.read_bytes() == told
                continue
            mine.log(log)
            told += line
            if fate == "doubled":  # a piece that was made part of another is still there
                name.write_bytes(line)
            if fate == "again":
                mine = Replica(here, Remote(url))
                mine.fetch()
            assert log.read_bytes() == told
    assert fetched(url, here.parent / "elsewhere").get("outbox.jsonl", b"") == told


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


def test_pieces_are_made_one_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made one stays: of 100 lines, ten pieces of ten."""
    monkeypatch.setattr(replica, "MERGED", 10)
    here, there, url = pair(tmp_path)
    mine = Replica(here, Remote(url))
    for _ in range(100):
        with (here / "outbox.jsonl").open("ab") as file:
            file.write(b"one\n")
        mine.log(here / "outbox.jsonl")
    names = sorted(path.name for path in (there / "outbox.jsonl").iterdir())
    assert names == [f"{40 * n:012d}-{40 * (n + 1):012d}" for n in range(10)]
    assert fetched(url, tmp_path / "elsewhere") == {"outbox.jsonl": b"one\n" * 100}
